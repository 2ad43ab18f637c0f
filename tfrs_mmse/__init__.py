"""MMSE (arXiv 2303.11009) on TensorFlow Recommenders: retrieval that finds the items people order.

Importing this package loads no TensorFlow, so that `--help` answers at once. TensorFlow Recommenders needs Keras 2,
which TensorFlow from 2.16 on gives only when `TF_USE_LEGACY_KERAS=1` is set before `tf.keras` is first touched; this
package sets it, and says so in one sentence when it is too late.
"""

import os
import sys

__version__ = "0.1.0"
__all__ = ["__version__"]


def _require_keras_2() -> None:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    # What matters reaches us as exceptions; the rest buries our progress.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tensorflow = sys.modules.get("tensorflow")
    # The attribute is absent only while TensorFlow itself is importing.
    if tensorflow is not None and hasattr(tensorflow, "keras"):
        version = (
            tensorflow.keras.version() if hasattr(tensorflow.keras, "version") else "2"
        )
        if not version.startswith("2"):
            raise ImportError(
                f"tfrs_mmse needs Keras 2, but TensorFlow has already loaded Keras {version}: "
                "import tfrs_mmse before tf.keras is used, or set TF_USE_LEGACY_KERAS=1 in the environment."
            )
    elif os.environ["TF_USE_LEGACY_KERAS"].lower() not in ("1", "true"):
        raise ImportError(
            f"tfrs_mmse needs Keras 2, but TF_USE_LEGACY_KERAS={os.environ['TF_USE_LEGACY_KERAS']} asks for Keras 3: "
            "unset it or set it to 1."
        )


_require_keras_2()
