"""One loaded version of a model: what its signatures are, and answering requests with them."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving import tensors
from serving.errors import RequestError, from_graph, invalid
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError

SAVED_MODEL = "saved_model.pb"
WARMUP_REQUESTS = "assets.extra/tf_serving_warmup_requests"


class Servable:
    """A SavedModel written by `serving.export`, loaded and warm.

    Attributes:
        manifest: `manifest.json` of the version.
        required_custom_ops: Operations that neither TensorFlow nor TensorFlow Text has, sorted.
        signature_defs: By name, as TensorFlow Serving reports them.
    """

    def __init__(self, directory: Path) -> None:
        """Loads a version and replays its warm-up requests.

        Raises:
            CommandError: it is not such a SavedModel, of another format version, or needs operations that are not here.
            RequestError: a warm-up request failed.
        """
        self.manifest = schema.read_versioned_json(
            directory / schema.MANIFEST,
            wanted="a model version written by `python -m serving.export`",
        )
        graph = _read_saved_model(directory)
        self.required_custom_ops = _load_custom_ops(graph, directory)
        self.signature_defs = graph.meta_graphs[0].signature_def
        self._loaded = tf.saved_model.load(str(directory))
        self._signatures = dict(self._loaded.signatures)
        for request in read_warmup_requests(directory):
            self.predict(
                request.model_spec.signature_name, request.inputs, request.output_filter
            )

    def predict(
        self,
        signature_name: str,
        inputs: Mapping[str, Any],
        output_filter: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Answers one `PredictRequest`.

        Args:
            signature_name: `serving_default` if empty.
            inputs: TensorProto by input name.
            output_filter: Outputs wanted; all, if empty.

        Returns:
            Arrays by output name.

        Raises:
            RequestError: with the code that TensorFlow Serving gives.
        """
        signature_name = signature_name or schema.SERVING_DEFAULT
        function = self._signatures.get(signature_name)
        if function is None:
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{signature_name}" not found: this model has {_names(self._signatures)}.',
            )
        specs = function.structured_input_signature[1]
        if inputs.keys() != specs.keys():
            extra, missing = inputs.keys() - specs.keys(), specs.keys() - inputs.keys()
            raise invalid(
                f"inputs do not match the signature {signature_name}: it takes {_names(specs)}, the request holds "
                f"{_names(inputs)}. Sent extra: {_names(extra)}. Missing but required: {_names(missing)}."
            )
        outputs = self._outputs(function.structured_outputs, output_filter)
        arrays = {
            name: tensors.read_tensor(name, inputs[name], specs[name]) for name in specs
        }
        try:
            result = function(
                **{
                    name: tf.constant(array, specs[name].dtype)
                    for name, array in arrays.items()
                }
            )
        except tf.errors.OpError as e:
            raise from_graph(e) from e
        return {name: result[name].numpy() for name in outputs}

    def input_specs(self, signature_name: str) -> dict[str, tf.TensorSpec]:
        """What a signature takes, by input name."""
        return dict(self._signatures[signature_name].structured_input_signature[1])

    def close(self) -> None:
        """Frees the memory; nobody may be searching any more."""
        if hasattr(self._loaded, "release"):
            self._loaded.release()
        del self._loaded, self._signatures
        gc.collect()  # loaded functions refer to each other in circles

    def _outputs(
        self, available: Mapping[str, Any], output_filter: Sequence[str]
    ) -> list[str]:
        for place, name in enumerate(output_filter):
            if name not in available:
                raise invalid(
                    f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                    f"{_names(available)}."
                )
            if name in output_filter[:place]:
                raise invalid(f"duplicate output tensor alias: {name}")
        return list(output_filter or available)


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


def _read_saved_model(directory: Path) -> saved_model_pb2.SavedModel:
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
    return saved_model


def _load_custom_ops(
    saved_model: saved_model_pb2.SavedModel, directory: Path
) -> list[str]:
    wanted = _op_types(saved_model.meta_graphs[0].graph_def)
    if _unknown(wanted):
        import tensorflow_text  # noqa: F401 # registers its operations; TensorFlow Serving links them as well
    custom = _unknown(wanted)
    if any(name.startswith("Scann>") for name in custom):
        from serving.index import import_scann

        import_scann()
    if unknown := _unknown(wanted):
        raise CommandError(
            f"{directory} needs operations that are not installed here: {', '.join(unknown)}"
        )
    return [name for name in wanted if name in custom or name.startswith("Scann>")]


def _op_types(graph: graph_pb2.GraphDef) -> list[str]:
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    functions = {function.signature.name for function in graph.library.function}
    return sorted({node.op for node in nodes} - functions)


def _unknown(op_types: Sequence[str]) -> list[str]:
    return [name for name in op_types if op_def_registry.get(name) is None]


def _names(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"
