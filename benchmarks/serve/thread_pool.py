"""The server that one writes first: a gRPC thread pool around a loaded SavedModel. What ours is compared with.

python -m benchmarks.serve.thread_pool --version-dir DIR --port PORT
"""

import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tfrs_mmse import cli

THREADS = 8


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Loads, serves until a signal."""
    parser = cli.argument_parser("benchmarks.serve.thread_pool", __doc__)
    parser.add_argument("--version-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args(argv)

    import grpc
    import tensorflow as tf
    import tensorflow_text  # noqa: F401 # registers its operations
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    from serving.index.scann import import_scann

    import_scann()
    loaded = tf.saved_model.load(str(args.version_dir))
    search = loaded.signatures["serving_default"]
    search(query=tf.constant(["a"]))  # puts ScaNN's searcher together

    class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, context: Any) -> predict_pb2.PredictResponse:
            query = tf.make_ndarray(request.inputs["query"])
            reply = predict_pb2.PredictResponse(model_spec=request.model_spec)
            for name, tensor in search(query=tf.constant(query)).items():
                reply.outputs[name].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
            return reply

    server = grpc.server(ThreadPoolExecutor(THREADS))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Servicer(), server
    )
    server.add_insecure_port(f"127.0.0.1:{args.port}")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server.start()
    cli.say(f"serving version {args.version_dir.name} on 127.0.0.1:{args.port}")
    stop.wait()
    server.stop(grace=None)


if __name__ == "__main__":
    sys.exit(main())
