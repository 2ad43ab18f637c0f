"""Importing the package, in processes of their own: what counts is the order of imports."""

import os
import subprocess
import sys

import pytest

CLEAN = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=CLEAN | environment,
    )


@pytest.mark.parametrize(
    "imports",
    ["import tfrs_mmse, tensorflow as tf", "import tensorflow as tf, tfrs_mmse"],
)
def test_the_package_gives_keras_2_before_and_after_tensorflow(imports: str) -> None:
    done = run(
        f"{imports}\nimport tensorflow_recommenders\nprint(tf.keras.layers.Dense.__module__)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tf_keras.")


def test_it_fails_with_one_sentence_when_keras_3_is_loaded_already() -> None:
    done = run("import tensorflow as tf; tf.keras.layers.Dense; import tfrs_mmse")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "ImportError: tfrs_mmse needs Keras 2, but TensorFlow has already loaded Keras 3."
    )
    assert last.endswith("set TF_USE_LEGACY_KERAS=1 in the environment.")


def test_it_fails_with_one_sentence_when_keras_3_is_asked_for() -> None:
    done = run("import tfrs_mmse", TF_USE_LEGACY_KERAS="0")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "ImportError: tfrs_mmse needs Keras 2, but TF_USE_LEGACY_KERAS=0 asks for Keras 3"
    )


COMMANDS = (
    "beam.simulate",
    "beam.preprocess",
    "tfrs_mmse.train",
    "tfrs_mmse.evaluate",
    "serving.export",
    "serving.server",
    "serving.client",
    "benchmarks.demo",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_nothing_heavy(command: str) -> None:
    done = run(
        "import runpy, sys\n"
        f"sys.argv = ['{command}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('{command}', run_name='__main__')\n"
        "except SystemExit as e:\n"
        "    heavy = {'tensorflow', 'apache_beam', 'scann', 'ranx', 'numba', 'grpc', 'pyarrow'} & set(sys.modules)\n"
        "    print('exit', e.code, sorted(heavy))\n"
    )
    assert f"python -m {command}" in done.stdout
    # The client is gRPC and little else.
    needed = "['grpc']" if command == "serving.client" else "[]"
    assert done.stdout.endswith(f"exit 0 {needed}\n"), done.stdout + done.stderr
