"""Packaging; the tools' settings are in pyproject.toml, the pinned environment in requirements.lock."""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "tfrs_mmse/__init__.py").read_text()
)

setup(
    name="tfrs-mmse",
    version=VERSION.group(1) if VERSION else "0",
    description="MMSE on TensorFlow Recommenders: e-commerce retrieval that finds the items people order",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.12",
    # Named one by one, so that the tests are never installed and Beam's workers get exactly this code.
    packages=[
        "tfrs_mmse",
        "tfrs_mmse.report",
        "beam",
        "beam.shop",
        "serving",
        "serving.client",
        "serving.export",
        "serving.index",
        "serving.server",
    ],
    package_data={
        "tfrs_mmse": ["py.typed"],
        "beam": ["py.typed"],
        "serving": ["py.typed"],
    },
    install_requires=[
        # One TensorFlow minor for all of them: ScaNN's and TensorFlow Text's ops are built against exactly that.
        "tensorflow~=2.20.0",
        "tf-keras~=2.20.0",
        "tensorflow-text~=2.20.0",
        "tensorflow-recommenders>=0.7.7",
        "tensorflow-serving-api~=2.20.0",
        "apache-beam>=2.77,<3",
        "bm25s>=0.3",
        # The server is written on its core binding (serving/server/rpc_server.py), which another minor may change.
        "grpcio~=1.85.0",
        "grpcio-health-checking>=1.80",
        "matplotlib>=3.10",
        "numpy>=2,<3",
        "orjson>=3.10",
        "polars>=2.1,<3",
        "prometheus-client>=0.22",
        "pyarrow>=20",
        "ranx>=0.3.21",
        "tqdm>=4.66",
    ],
    extras_require={
        # Linux on x86-64 only; elsewhere `serving.export --index exact` needs nothing more.
        "scann": ["scann[tf]~=1.4.2"],
        # For `python -m benchmarks.serve` alone.
        "ann": ["faiss-cpu>=1.12", "hnswlib>=0.8"],
        # For `python -m benchmarks.train` alone.
        "torch": ["torch>=2.5"],
        "dev": [
            "import-linter>=2",
            "ir-measures>=0.4",
            "mypy>=2",
            "pytest>=9",
            "pytest-timeout>=2.4",
            "pytest-xdist>=3.8",
            "ruff>=0.17",
            "trustme>=1.2",
        ],
    },
)
