"""One search from first to last, without doing any input or output: what to send, when to wait, what it came to.

The clients for threads and for asyncio differ only in how they send and wait; what they do is decided here.
"""

from collections.abc import Generator
from typing import NamedTuple

import grpc

from serving.client.retries import Attempts
from serving.client.search_error import SearchError, from_rpc
from serving.client.search_reply import SearchReply, read_reply, width
from serving.client.search_request import SearchRequest
from serving.client.stubs import PredictRequest, PredictResponse
from tfrs_mmse import schema


class Send(NamedTuple):
    """Send this; what is answered, or a `grpc.RpcError`, comes back into the generator."""

    message: PredictRequest
    timeout: float  # seconds


class Wait(NamedTuple):
    """Do nothing for so many seconds."""

    seconds: float


class Outcome(NamedTuple):
    """How a search ended.

    Attributes:
        reply: The answer.
        width: Results per query for which the model was exported, as far as is known.
    """

    reply: SearchReply
    width: int | None


Step = Send | Wait
Conversation = Generator[Step, PredictResponse | None, Outcome]


def converse(
    request: SearchRequest, attempts: Attempts, target: str, known_width: int | None
) -> Conversation:
    """Asks by the plainest signature that can answer, and by the one that takes its own k if that gives too few.

    Args:
        request: What is searched.
        attempts: Which failures to try again after, and when.
        target: Who is asked, for messages.
        known_width: Results per query for which the model was exported, if an earlier answer has shown it.

    Raises:
        SearchError: the server refused, was not reached in time, answered something else, or gives no k results.
    """
    signature = request.signature(known_width)
    try:
        if signature != schema.SEARCH_FILTERED:
            answer = yield from _insist(request.message(signature), attempts)
            reply = read_reply(answer, request.queries, request.k)
            known_width = width(answer)
            if request.k <= known_width:
                return Outcome(reply, known_width)
        answer = yield from _insist(request.message(schema.SEARCH_FILTERED), attempts)
    except grpc.RpcError as e:
        # TensorFlow Serving's code for a signature that is not there; only an answer too short can have led here.
        absent = e.code() is grpc.StatusCode.FAILED_PRECONDITION
        if absent and not request.filters and known_width is not None:
            raise SearchError(
                f"k must be at most {known_width}, the results for which this model was exported, got {request.k}: "
                "ask for fewer, or export with a larger --k"
            ) from None
        raise from_rpc(e, target, attempts.timeout) from None
    return Outcome(read_reply(answer, request.queries, request.k), known_width)


def _insist(
    message: PredictRequest, attempts: Attempts
) -> Generator[Step, PredictResponse | None, PredictResponse]:
    while True:
        try:
            answer = yield Send(message, attempts.remaining())
            assert answer is not None
            return answer
        except grpc.RpcError as e:
            pause = attempts.pause_after(e.code())
            if pause is None:
                raise
        yield Wait(pause)
