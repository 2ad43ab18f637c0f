"""One loaded version of a model: what its signatures are, and answering requests with them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.saved_model import loader_impl

from serving.server import tensors
from serving.server.errors import RequestError, from_graph, invalid
from serving.server.garbage import settle
from serving.server.saved_model import (
    load_custom_ops,
    read_graph,
    read_manifest,
    read_warmup_requests,
)
from tfrs_mmse import schema

_MAX_EXTRA = 100  # inputs that a request may hold beside those of the signature, for all to be named
_OF_TENSORFLOW = "__"  # begins the names of signatures that are not for requests


class Call(NamedTuple):
    """A request that was checked against its signature.

    Attributes:
        signature_name: Which one.
        inputs: Arrays in the order of the signature's inputs.
        outputs: Names of the outputs wanted.
    """

    signature_name: str
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[str, ...]

    @property
    def num_rows(self) -> int:
        """Rows of the first input; 1 where it has none."""
        return len(self.inputs[0]) if self.inputs and self.inputs[0].ndim else 1


class Signature(NamedTuple):
    """What a signature takes and gives, by name.

    Attributes:
        inputs: In a fixed order.
        outputs: Names of tensors in the graph, in a fixed order.
    """

    inputs: dict[str, tf.TensorSpec]
    outputs: dict[str, str]


class Servable:
    """A SavedModel written by `serving.export`, loaded and warm.

    It runs in a session, as in TensorFlow Serving, and not by eager calls of the loaded functions: a call costs less,
    an operation runs in the thread that asks (others wait for a core as long as they would for that thread), and all
    its memory goes with the session.

    Attributes:
        manifest: `manifest.json` of the version.
        required_custom_ops: Operations that neither TensorFlow nor TensorFlow Text has, sorted.
        signature_defs: By name, as TensorFlow Serving reports them.
    """

    def __init__(self, directory: Path) -> None:
        """Loads a version and replays its warm-up requests.

        Raises:
            CommandError: it is not such a SavedModel, not whole, of another format version, or needs operations that
                are not here.
            RequestError: a warm-up request failed.
        """
        self.manifest = read_manifest(directory)
        meta_graph = read_graph(directory)
        self.required_custom_ops = load_custom_ops(meta_graph.graph_def, directory)
        self.signature_defs = meta_graph.signature_def
        self._signatures = _signatures(meta_graph)
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=session_config())
        self._callables: dict[tuple[str, tuple[str, ...]], Callable] = {}
        try:
            loader = loader_impl.SavedModelLoader(str(directory))
            loader.load(self._session, [tf.saved_model.SERVING])
            for request in read_warmup_requests(directory):
                self.predict(
                    request.model_spec.signature_name,
                    request.inputs,
                    request.output_filter,
                )
        except BaseException:
            self._session.close()
            raise
        settle()

    def predict(
        self,
        signature_name: str,
        inputs: Mapping[str, Any],
        output_filter: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Answers one `PredictRequest` in this thread; see `check` and `run`."""
        call = self.check(signature_name, inputs, output_filter)
        return dict(zip(call.outputs, self.run(call), strict=True))

    def check(
        self,
        signature_name: str,
        inputs: Mapping[str, Any],
        output_filter: Sequence[str] = (),
    ) -> Call:
        """Checks a request against its signature.

        Args:
            signature_name: `serving_default` if empty.
            inputs: TensorProto by input name.
            output_filter: Outputs wanted; all, if empty.

        Raises:
            RequestError: with the code that TensorFlow Serving gives.
        """
        signature_name = signature_name or schema.SERVING_DEFAULT
        signature = self._signatures.get(signature_name)
        if signature is None:
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{signature_name}" not found: this model has {_names(self._signatures)}.',
            )
        specs = signature.inputs
        if len(inputs) > len(specs) + _MAX_EXTRA:
            raise invalid(
                f"inputs do not match the signature {signature_name}: it takes {_names(specs)}, the request holds "
                f"{len(inputs)}"
            )
        if inputs.keys() != specs.keys():
            extra, missing = inputs.keys() - specs.keys(), specs.keys() - inputs.keys()
            raise invalid(
                f"inputs do not match the signature {signature_name}: it takes {_names(specs)}, the request holds "
                f"{_names(inputs)}. Sent extra: {_names(extra)}. Missing but required: {_names(missing)}."
            )
        outputs = _outputs(signature.outputs, output_filter)
        arrays = [tensors.read_tensor(n, inputs[n], spec) for n, spec in specs.items()]
        return Call(signature_name, tuple(arrays), outputs)

    def run(self, call: Call) -> list[np.ndarray]:
        """Computes the outputs of a call, in their order. Any number of threads may run at once.

        Raises:
            RequestError: an operation of the graph refused, for the caller's mistake or another reason.
        """
        key = (call.signature_name, call.outputs)
        function = self._callables.get(key)
        if function is None:
            function = self._callables[key] = self._make_callable(*key)
        try:
            return function(*call.inputs)
        except tf.errors.OpError as e:
            raise from_graph(e) from e

    def signature(self, name: str) -> Signature:
        """What a signature takes and gives; KeyError if there is none of that name."""
        return self._signatures[name]

    def close(self) -> None:
        """Frees the memory; nobody may be searching any more."""
        self._session.close()
        del self._session, self._callables
        settle()  # a graph's operations refer to each other in circles

    def _make_callable(self, signature_name: str, outputs: tuple[str, ...]) -> Callable:
        tensor = self._session.graph.get_tensor_by_name
        inputs = self.signature_defs[signature_name].inputs
        signature = self._signatures[signature_name]
        return self._session.make_callable(
            [tensor(signature.outputs[name]) for name in outputs],
            [tensor(inputs[name].name) for name in signature.inputs],
        )


def session_config() -> tf.compat.v1.ConfigProto:
    """How a session computes."""
    # Operations run in the thread that asks, one after the other: handing each of a search's hundreds of small ones to
    # another thread costs more than it gains. Large products still use every core.
    return tf.compat.v1.ConfigProto(inter_op_parallelism_threads=-1)


def _signatures(meta_graph: meta_graph_pb2.MetaGraphDef) -> dict[str, Signature]:
    return {
        name: Signature(
            {
                key: tf.TensorSpec(info.tensor_shape, tf.as_dtype(info.dtype), key)
                for key, info in sorted(definition.inputs.items())
            },
            {key: info.name for key, info in sorted(definition.outputs.items())},
        )
        for name, definition in meta_graph.signature_def.items()
        if not name.startswith(_OF_TENSORFLOW)
    }


def _outputs(
    available: Mapping[str, Any], output_filter: Sequence[str]
) -> tuple[str, ...]:
    for place, name in enumerate(output_filter):
        if name not in available:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{_names(available)}."
            )
        if name in output_filter[:place]:
            raise invalid(f"duplicate output tensor alias: {name}")
    return tuple(output_filter or available)


def _names(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"
