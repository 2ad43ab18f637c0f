"""The client as a class: query strings in, the best items out, over TensorFlow Serving's gRPC API."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError

_FIRST_PAUSE = 0.1  # seconds; doubles with every further attempt


class Hit(NamedTuple):
    """One found item and its score."""

    item_id: str
    score: float


class SearchError(CommandError):
    """A search that failed.

    Attributes:
        code: The gRPC status code, or None where the server answered something else than it should.
    """

    def __init__(self, message: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(message)
        self.code = code


class SearchClient:
    """Asks one model on one server. Every call has a deadline; only an unreachable server is asked again."""

    def __init__(
        self,
        target: str,
        model: str,
        *,
        timeout: float = 5.0,
        max_attempts: int = 3,
        stub: Any = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens a channel; nothing is sent yet.

        Args:
            target: HOST:PORT.
            model: The model's name on the server.
            timeout: Seconds for one search, all attempts together.
            max_attempts: Calls at the most, the first included.
            stub: A `PredictionServiceStub`; by default one on a new channel.
            sleep: For tests.
            clock: For tests.
        """
        self._target, self._model, self._timeout, self._max_attempts = (
            target,
            model,
            timeout,
            max_attempts,
        )
        self._sleep, self._clock = sleep, clock
        self._channel = None
        if stub is None:
            options = [("grpc.max_receive_message_length", -1)]
            self._channel = grpc.insecure_channel(target, options=options)
            stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._stub = stub

    def search(
        self, queries: Sequence[str], k: int = 10, *, exclude: Sequence[str] = ()
    ) -> list[list[Hit]]:
        """Finds the k best items for each query, best first; fewer where the catalogue has no more.

        Args:
            queries: Query strings.
            k: Results per query, at most as many as the model was exported for.
            exclude: Item ids that no query wants.

        Raises:
            SearchError: the server refused, was not reached in time, or answered something else.
        """
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self._model
        request.model_spec.signature_name = (
            schema.SEARCH_EXCLUDING if exclude else schema.SERVING_DEFAULT
        )
        encoded = [query.encode("utf-8", "surrogateescape") for query in queries]
        request.inputs[schema.QUERY].CopyFrom(
            tf.make_tensor_proto(encoded, tf.string, [len(encoded)])
        )
        if exclude:
            ids = [list(exclude)] * len(encoded)
            request.inputs[schema.EXCLUDE].CopyFrom(
                tf.make_tensor_proto(ids, tf.string, [len(ids), len(exclude)])
            )
        reply = self._call(request)
        item_id, score = self._arrays(reply, len(encoded))
        if k > item_id.shape[1]:
            raise SearchError(
                f"--k must be at most {item_id.shape[1]}, the results for which this model was exported, got {k}: "
                "ask for fewer, or export with a larger --k"
            )
        return [
            [
                Hit(name.decode(), float(s))
                for name, s in zip(ids[:k], scores[:k], strict=True)
                if name
            ]
            for ids, scores in zip(item_id, score, strict=True)
        ]

    def close(self) -> None:
        """Closes the channel."""
        if self._channel is not None:
            self._channel.close()

    def __enter__(self) -> "SearchClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        deadline = self._clock() + self._timeout
        for attempt in range(1, self._max_attempts + 1):
            try:
                return self._stub.Predict(
                    request, timeout=max(deadline - self._clock(), 0.0)
                )
            except grpc.RpcError as e:
                pause = _FIRST_PAUSE * 2 ** (attempt - 1)
                last = (
                    attempt == self._max_attempts or self._clock() + pause >= deadline
                )
                if e.code() is not grpc.StatusCode.UNAVAILABLE or last:
                    raise self._failure(e) from None
                self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _failure(self, error: Any) -> SearchError:
        code = error.code()
        if code is grpc.StatusCode.UNAVAILABLE:
            return SearchError(
                f"no server answers at {self._target} ({error.details()}): is it running?",
                code,
            )
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return SearchError(
                f"{self._target} did not answer within {self._timeout:g} seconds", code
            )
        return SearchError(
            f"{self._target} refused the request: {error.details()} ({code.name})", code
        )

    def _arrays(
        self, reply: predict_pb2.PredictResponse, num_queries: int
    ) -> tuple[Any, Any]:
        try:
            item_id = tf.make_ndarray(reply.outputs[schema.ITEM_ID])
            score = tf.make_ndarray(reply.outputs[schema.SCORE])
            if (
                item_id.shape != score.shape
                or item_id.shape[:1] != (num_queries,)
                or item_id.ndim != 2
            ):
                raise ValueError(
                    f"item_id of shape {item_id.shape}, score of shape {score.shape}"
                )
        except (ValueError, TypeError) as e:
            raise SearchError(
                f"the model {self._model} on {self._target} did not answer with {schema.ITEM_ID} and {schema.SCORE} "
                f"for {num_queries} queries ({e}): was it written by serving.export?"
            ) from None
        return item_id, score
