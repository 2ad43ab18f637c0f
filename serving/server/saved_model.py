"""A model version as it lies on disk: whether it is whole, what it needs, and its warm-up requests."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError

SAVED_MODEL = "saved_model.pb"
WARMUP_REQUESTS = "assets.extra/tf_serving_warmup_requests"
FILES = "files"  # of the manifest: every other file of the version, with its bytes
_VARIABLES = "variables"
_SCANN = "Scann>"
# Of the variables' bytes: what a loaded version holds. ScaNN's searcher has vectors and codes of its own.
_COPIES = {"exact": 1.2, "scann": 2.2}


def read_manifest(directory: Path) -> dict[str, Any]:
    """`manifest.json` of a version, once all files that it names have come.

    Raises:
        CommandError: there is none, it is of another format, or a file is not there or not as long as it was written.
    """
    manifest = schema.read_versioned_json(
        directory / schema.MANIFEST,
        wanted="a model version written by `python -m serving.export`",
    )
    for name, size in manifest.get(FILES, {}).items():
        path = directory / name
        found = path.stat().st_size if path.is_file() else 0
        if found != size:
            raise CommandError(
                f"{directory} is not whole: {name} has {found} of {size} bytes; copy the rest, or export anew"
            )
    return manifest


def file_sizes(directory: Path) -> dict[str, int]:
    """Bytes of every file of a version but its manifest, by path below it, sorted."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        str(path.relative_to(directory)): path.stat().st_size
        for path in files
        if path.name != schema.MANIFEST
    }


def memory_needed(directory: Path, manifest: dict[str, Any]) -> int:
    """Bytes that a version holds once it is loaded, from the size of its variables and the kind of its index."""
    files = (directory / _VARIABLES).glob("*")
    copies = _COPIES[manifest["index"]["kind"]]
    return int(copies * sum(path.stat().st_size for path in files))


def read_graph(directory: Path) -> meta_graph_pb2.MetaGraphDef:
    """The graph of a version, with its signatures.

    Raises:
        CommandError: there is none, or the file is cut short.
    """
    path = directory / SAVED_MODEL
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except FileNotFoundError:
        raise CommandError(
            f"expected a SavedModel in {directory}, but there is no {SAVED_MODEL}"
        ) from None
    except DecodeError:
        raise CommandError(
            f"{path} is not a SavedModel, or is cut short: export the model anew"
        ) from None
    if not saved_model.meta_graphs:
        raise CommandError(f"{path} holds no graph: export the model anew")
    return saved_model.meta_graphs[0]


def load_custom_ops(graph: graph_pb2.GraphDef, directory: Path) -> list[str]:
    """Makes known the operations that a graph needs beyond TensorFlow's.

    Returns:
        Those that TensorFlow Text does not have either, sorted.

    Raises:
        CommandError: some are not installed here.
    """
    wanted = op_types(graph)
    if _unknown(wanted):
        import tensorflow_text  # noqa: F401 # registers its operations; TensorFlow Serving links them as well
    custom = _unknown(wanted)
    if any(name.startswith(_SCANN) for name in custom):
        from serving.index.scann import import_scann

        import_scann()
    if unknown := _unknown(wanted):
        raise CommandError(
            f"{directory} needs operations that are not installed here: {', '.join(unknown)}"
        )
    return [name for name in wanted if name in custom or name.startswith(_SCANN)]


def op_types(graph: graph_pb2.GraphDef) -> list[str]:
    """The kinds of operations in a graph and its functions, sorted."""
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    functions = {function.signature.name for function in graph.library.function}
    return sorted({node.op for node in nodes} - functions)


def read_warmup_requests(directory: Path) -> Iterator[predict_pb2.PredictRequest]:
    """The requests of `assets.extra/tf_serving_warmup_requests`, if there is such a file.

    Raises:
        CommandError: a record is not a `PredictionLog` with a `PredictRequest`.
    """
    path = directory / WARMUP_REQUESTS
    if not path.exists():
        return
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        try:
            log = prediction_log_pb2.PredictionLog.FromString(record)
        except DecodeError:
            raise CommandError(
                f"{path} holds a record that is no PredictionLog: export the model anew"
            ) from None
        yield log.predict_log.request


def _unknown(names: Sequence[str]) -> list[str]:
    return [name for name in names if op_def_registry.get(name) is None]
