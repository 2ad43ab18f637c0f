"""Requests that a server replays before it calls a version available."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.server.saved_model import WARMUP_REQUESTS
from tfrs_mmse import schema

_K = 10  # results asked for where a request says how many


def write_warmup_requests(
    version_dir: Path,
    model_name: str,
    queries: list[str],
    filters: Sequence[list[str]],
) -> None:
    """Writes real requests that a server replays before it calls the version available: one by one and as a batch.

    Args:
        version_dir: The version.
        model_name: Its model's name.
        queries: What is asked.
        filters: Clauses; inside each of these filters one of the queries is asked at least, if there are as many.
    """
    path = version_dir / WARMUP_REQUESTS
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, batch in enumerate([*([query] for query in queries), queries]):
            nothing = tf.make_tensor_proto([[""]] * len(batch), tf.string)
            clauses = [filters[number % len(filters)] or [""]] * len(batch)
            more = {
                schema.SERVING_DEFAULT: {},
                schema.SEARCH_EXCLUDING: {schema.EXCLUDE: nothing},
                schema.SEARCH_FILTERED: {
                    schema.K: tf.make_tensor_proto([_K] * len(batch), tf.int32),
                    schema.EXCLUDE: nothing,
                    schema.FILTER: tf.make_tensor_proto(clauses, tf.string),
                },
            }
            for name, inputs in more.items():
                request = predict_pb2.PredictRequest()
                request.model_spec.name, request.model_spec.signature_name = (
                    model_name,
                    name,
                )
                request.inputs[schema.QUERY].CopyFrom(
                    tf.make_tensor_proto(batch, tf.string)
                )
                for input_name, proto in inputs.items():
                    request.inputs[input_name].CopyFrom(proto)
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                writer.write(log.SerializeToString())
