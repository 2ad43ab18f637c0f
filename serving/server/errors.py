"""Why a request is refused: a gRPC status code and one sentence."""

import re

import grpc
import tensorflow as tf

MAX_MESSAGE = 1024  # characters, as TensorFlow Serving cuts its messages

_HTTP = {  # as TensorFlow Serving's REST API maps them; 500, if not here
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
_ASSERTION = re.compile(r"assertion failed: \[(.*?)\](?: \[|\s|$)", re.DOTALL)
_NOISE = re.compile(
    r"^(Graph execution error:|Detected at node .*|<stack traces unavailable>|\s*File .*|\s*\[\[\{\{node .*|\s*)$"
)
_GRAPH_PREFIX = re.compile(r"\{\{function_node .*?\}\}\s*")
_OPERATION = re.compile(r"\s*\[(Op|[0-9a-zA-Z_/]*Op):[^\]]*\]")
_PLAIN = {"Invalid formatting on input string": "the text is not valid UTF-8"}


class RequestError(Exception):
    """A request that cannot be answered.

    Attributes:
        code: The status code that TensorFlow Serving gives.
        message: One sentence for the caller, at most MAX_MESSAGE characters.
        http_status: What the code is over HTTP.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = _HTTP.get(code, 500)
        self.message = (
            message
            if len(message) <= MAX_MESSAGE
            else message[: MAX_MESSAGE - 3] + "..."
        )


def invalid(message: str) -> RequestError:
    """INVALID_ARGUMENT: the caller's mistake, whatever the state of the server."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def internal() -> RequestError:
    """INTERNAL: a bug of ours, whose inside only the log shows."""
    return RequestError(
        grpc.StatusCode.INTERNAL, "the server failed on this request; its log says why"
    )


def from_graph(error: tf.errors.OpError) -> RequestError:
    """What an operation of the graph refused, with its code and without TensorFlow's account of where."""
    return RequestError(
        _BY_NUMBER.get(error.error_code, grpc.StatusCode.INTERNAL),
        plain_message(error.message or ""),
    )


def plain_message(message: str) -> str:
    r"""The sentence inside the message of a graph execution error.

    >>> plain_message("Graph execution error:\n\nassertion failed: [query is empty] [x (A:0) = ] [0]")
    'query is empty'
    """
    if assertion := _ASSERTION.search(message):
        return assertion[1].strip()
    lines = [
        _OPERATION.sub("", _GRAPH_PREFIX.sub("", line))
        for line in message.splitlines()
        if not _NOISE.match(line)
    ]
    text = " ".join(line.strip() for line in lines if line.strip())
    return _PLAIN.get(text, text) or "the graph failed without a message"
