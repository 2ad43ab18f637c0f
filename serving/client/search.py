"""The client as a class, for threads and for asyncio."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import grpc

from serving.client.connection import Connection, Metadata, Tls
from serving.client.conversation import Conversation, Outcome, Wait, converse
from serving.client.retries import Attempts, RetryPolicy
from serving.client.search_reply import SearchReply
from serving.client.search_request import SearchRequest
from serving.client.stubs import PREDICT, PredictRequest, PredictResponse


class _Client:
    """What both clients are: a model behind a channel."""

    _channels: Any = None  # `grpc` or `grpc.aio`
    _default_sleep: Any = None

    def __init__(
        self,
        target: str,
        model: str,
        *,
        version: int | str | None = None,
        timeout: float = 5.0,
        retries: RetryPolicy | None = None,
        tls: Tls | None = None,
        token_file: Path | None = None,
        predict: Any = None,
        sleep: Any = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        """Opens a channel; nothing is sent yet.

        Args:
            target: HOST:PORT, or any other name that gRPC resolves.
            model: The model's name on the server.
            version: Its version's number, or a label that the server's configuration gives it; None: the newest.
            timeout: Seconds for one search, all attempts together.
            retries: When to try again; three attempts, if None.
            tls: How the connection is encrypted; not at all, if None.
            token_file: Holds a bearer token; read anew for each search, for tokens expire and are replaced.
            predict: For tests: sends a `PredictRequest` with `timeout` and `metadata`.
            sleep: For tests.
            clock: For tests.
            random: For tests.

        Raises:
            CommandError: a file of `tls` holds something else, or the token would travel unencrypted.
            OSError: a file of `tls` cannot be read.
        """
        self._target, self._timeout = target, timeout
        self._model, self._version = model, version
        self._retries = retries or RetryPolicy()
        self._connection = Connection(target=target, tls=tls, token_file=token_file)
        self._sleep = sleep or self._default_sleep
        self._clock, self._random = clock, random
        self._width: int | None = None  # results per query, as the latest answer showed
        self._channel: Any = None
        if predict is None:
            self._channel = self._connection.open(self._channels)
            predict = self._channel.unary_unary(
                PREDICT,
                request_serializer=PredictRequest.SerializeToString,
                response_deserializer=PredictResponse.FromString,
            )
        self._predict = predict

    def _begin(
        self,
        queries: Sequence[str],
        k: int,
        exclude: Sequence[str],
        filters: Sequence[str],
        timeout: float | None,
    ) -> tuple[Conversation, Metadata]:
        request = SearchRequest(
            model=self._model,
            version=self._version,
            queries=queries,
            k=k,
            exclude=exclude,
            filters=filters,
        )
        attempts = Attempts(
            self._retries,
            self._timeout if timeout is None else timeout,
            clock=self._clock,
            random=self._random,
        )
        conversation = converse(request, attempts, self._target, self._width)
        return conversation, self._connection.metadata()

    def _end(self, outcome: Outcome) -> SearchReply:
        self._width = outcome.width
        return outcome.reply


class SearchClient(_Client):
    """Asks one model, over one channel. Any number of threads may share it."""

    _channels = grpc
    _default_sleep = staticmethod(time.sleep)

    def search(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        exclude: Sequence[str] = (),
        filters: Sequence[str] = (),
        timeout: float | None = None,
    ) -> SearchReply:
        """Finds the k best items for each query, best first; fewer where no more satisfy the filters.

        Args:
            queries: Query strings.
            k: Results per query.
            exclude: Item ids that no query wants.
            filters: Clauses that every result must satisfy, such as `brand=acme`, `price>=10`, `price<=20`.
            timeout: Seconds for this search, all attempts together; the client's own, if None.

        Raises:
            SearchError: the server refused, was not reached in time, or answered something else.
            CommandError: the token's file holds no token.
            OSError: the token's file cannot be read.
        """
        conversation, metadata = self._begin(queries, k, exclude, filters, timeout)
        try:
            step = next(conversation)
            while True:
                try:
                    if isinstance(step, Wait):
                        answer = self._sleep(step.seconds)
                    else:
                        answer = self._predict(
                            step.message, timeout=step.timeout, metadata=metadata
                        )
                except grpc.RpcError as e:
                    step = conversation.throw(e)
                else:
                    step = conversation.send(answer)
        except StopIteration as end:
            return self._end(end.value)

    def close(self) -> None:
        """Closes the channel; searches under way end with an error."""
        if self._channel is not None:
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSearchClient(_Client):
    """The same for asyncio. Made inside a running loop; any number of searches may be under way at once."""

    _channels = grpc.aio
    _default_sleep = staticmethod(asyncio.sleep)

    async def search(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        exclude: Sequence[str] = (),
        filters: Sequence[str] = (),
        timeout: float | None = None,
    ) -> SearchReply:
        """As `SearchClient.search`; a task that is cancelled cancels its call."""
        conversation, metadata = self._begin(queries, k, exclude, filters, timeout)
        try:
            step = next(conversation)
            while True:
                try:
                    if isinstance(step, Wait):
                        answer = await self._sleep(step.seconds)
                    else:
                        answer = await self._predict(
                            step.message, timeout=step.timeout, metadata=metadata
                        )
                except grpc.RpcError as e:
                    step = conversation.throw(e)
                else:
                    step = conversation.send(answer)
        except StopIteration as end:
            return self._end(end.value)

    async def close(self) -> None:
        """Closes the channel; searches under way are cancelled."""
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
