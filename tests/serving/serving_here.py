"""Servers in the test's own process, of real versions or of one that answers when it is told to."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server.batcher import Batcher
from serving.server.grpc_server import GrpcServer
from serving.server.loading import load
from serving.server.metrics import Metrics
from serving.server.model_config import ModelConfig
from serving.server.models import Models
from serving.server.servable import Call, Servable, Signature


class Served(NamedTuple):
    """A server in this process."""

    target: str
    models: Models
    metrics: Metrics
    server: GrpcServer


@contextmanager
def serve_here(
    *configs: ModelConfig,
    load: Callable[[Path], Servable] = load,
    num_threads: int = 2,
    max_wait: float = 60.0,
    **of_server: Any,
) -> Iterator[Served]:
    """Serves models on a real socket."""
    metrics = Metrics()
    batcher = Batcher(num_threads=num_threads, max_wait=max_wait)
    models = Models(configs, batcher=batcher, metrics=metrics, load=load)
    models.refresh()
    server = GrpcServer(models, metrics, host="127.0.0.1", port=0, **of_server)
    server.set_health({name: bool(v) for name, v in models.versions().items()})
    yield Served(f"127.0.0.1:{server.port}", models, metrics, server)
    server.stop(grace=1.0)
    batcher.close()
    models.close()


class SlowServable:
    """Takes a `query` and gives each one's length as its `score`, once it is let go; fails on the query `bug`.

    Attributes:
        batches: The queries of each call of `run`.
    """

    def __init__(self) -> None:
        self.go, self.entered = threading.Event(), threading.Event()
        self.batches: list[list[str]] = []
        query = meta_graph_pb2.TensorInfo(dtype=types_pb2.DT_STRING)
        signature = meta_graph_pb2.SignatureDef(inputs={"query": query})
        self.signature_defs = {"serving_default": signature}

    def check(
        self,
        signature_name: str,
        inputs: Mapping[str, Any],
        output_filter: Sequence = (),
    ) -> Call:
        values = np.array(inputs["query"].string_val, dtype=object)
        return Call(signature_name, (values,), ("score",))

    def signature(self, name: str) -> Signature:
        return Signature({"query": tf.TensorSpec([None], tf.string)}, {"score": ""})

    def run(self, call: Call) -> list[np.ndarray]:
        queries = [query.decode() for query in call.inputs[0]]
        self.batches.append(queries)
        self.entered.set()
        assert self.go.wait(60)
        if "bug" in queries:
            raise ZeroDivisionError("a secret")
        return [np.array([len(q) for q in queries], np.float32)]

    def close(self) -> None:
        """Holds nothing."""
