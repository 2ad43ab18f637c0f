"""Why a search failed, for the one who asked."""

from typing import Any

import grpc

from tfrs_mmse.cli import CommandError


class SearchError(CommandError):
    """A search that failed.

    Attributes:
        code: The gRPC status code, or None where nothing was asked or something else was answered than a search.
    """

    def __init__(self, message: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(message)
        self.code = code


def from_rpc(error: Any, target: str, timeout: float) -> SearchError:
    """What the last attempt of a search ended with.

    Args:
        error: The `grpc.RpcError` of a call.
        target: Who was asked.
        timeout: Seconds that the whole search had.
    """
    code, details = error.code(), error.details()
    if code is grpc.StatusCode.UNAVAILABLE:
        return SearchError(
            f"no server answers at {target} ({details}): is it running?", code
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return SearchError(f"{target} did not answer within {timeout:g} seconds", code)
    return SearchError(f"{target} refused the request: {details} ({code.name})", code)
