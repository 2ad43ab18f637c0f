"""A server's life: loads, listens, looks for new versions, drains, stops."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from serving.server.batcher import Batcher
from serving.server.grpc_server import GrpcServer
from serving.server.metrics import Metrics
from serving.server.model_config import ModelConfig, read_model_config
from serving.server.models import Models
from serving.server.rest import RestServer
from serving.server.tls import TlsFile
from serving.server.tokens import Tokens
from serving.server.watched_file import WatchedFile
from tfrs_mmse.cli import CommandError, say

GRACE_SECONDS = 10.0


class Options(NamedTuple):
    """What `serving.server` was asked for; see its flags.

    Attributes:
        models: The only model, or
        model_config_file: where they are named.
        host: Address to listen on.
        port: gRPC port, or 0 for a free one.
        rest_port: HTTP port, or 0 for no REST API.
        poll_seconds: Between two looks for new versions; not positive: look once.
        config_poll_seconds: Between two readings of the config file; not positive: read it once.
        rest_seconds: After which a REST request that still waits is not answered.
        num_batch_threads: Batches computed at the same time.
        max_queue_seconds: A request that would wait longer is refused.
        drain_seconds: Between saying that it is about to stop and stopping.
        ssl_config_file: Keys and certificates; None: in the clear.
        auth_token_file: Bearer tokens; None: anybody may ask.
    """

    models: tuple[ModelConfig, ...]
    model_config_file: Path | None
    host: str
    port: int
    rest_port: int
    poll_seconds: float
    config_poll_seconds: float
    rest_seconds: float
    num_batch_threads: int
    max_queue_seconds: float
    drain_seconds: float
    ssl_config_file: Path | None
    auth_token_file: Path | None


def serve(options: Options, stop: threading.Event) -> dict[str, int]:
    """Serves until `stop` is set, and once more to cut the draining short.

    Returns:
        How many requests ended with which status code.

    Raises:
        CommandError: no version of any model can be loaded, a port cannot be used, or a file that an option names.
    """
    tls = TlsFile(options.ssl_config_file) if options.ssl_config_file else None
    tokens = Tokens(options.auth_token_file) if options.auth_token_file else None
    config = _config_file(options)
    metrics = Metrics()
    batcher = Batcher(
        num_threads=options.num_batch_threads, max_wait=options.max_queue_seconds
    )
    wanted = config.content if config else options.models
    models = Models(wanted, batcher=batcher, metrics=metrics)
    models.refresh()
    if not any(models.versions().values()):
        raise CommandError(_nothing_to_serve(models))
    server = GrpcServer(
        models,
        metrics,
        host=options.host,
        port=options.port,
        credentials=tls.grpc_credentials() if tls else None,
        tokens=tokens,
    )
    servers: list[GrpcServer | RestServer] = [server]
    if options.rest_port:
        rest = RestServer(
            models,
            metrics,
            host=options.host,
            port=options.rest_port,
            seconds=options.rest_seconds,
            tls=tls.ssl_context if tls else None,
            tokens=tokens,
        )
        servers.append(rest)
        # Before the lines that others wait for.
        say(f"REST API on {options.host}:{options.rest_port}")
    _watch(options, config, wanted, models, server, stop)
    server.drain()
    stop.clear()
    stop.wait(options.drain_seconds)
    with ThreadPoolExecutor() as together:
        list(together.map(lambda server: server.stop(GRACE_SECONDS), servers))
    batcher.close()
    models.close()
    return metrics.counts()


def _config_file(options: Options) -> WatchedFile[list[ModelConfig]] | None:
    if options.model_config_file is None:
        return None
    return WatchedFile(
        options.model_config_file,
        read_model_config,
        seconds=options.config_poll_seconds,
    )


def _watch(
    options: Options,
    config: WatchedFile[list[ModelConfig]] | None,
    wanted: Sequence[ModelConfig],
    models: Models,
    server: GrpcServer,
    stop: threading.Event,
) -> None:
    """Says what is served whenever it changes, until `stop` is set.

    `wanted` is what the models were made from: the config file may have changed while they were loaded.
    """
    told: dict[str, list[int]] = {}
    intervals = [options.poll_seconds]
    if config:
        intervals.append(options.config_poll_seconds)
    interval = min((seconds for seconds in intervals if seconds > 0), default=None)
    while True:
        versions = models.versions()
        server.set_health({name: bool(served) for name, served in versions.items()})
        for name, served in versions.items():
            for version in sorted(set(served) - set(told.get(name, []))):
                where = f"{options.host}:{server.port}"
                say(f"serving {name} version {version} on {where}")
        told = versions
        if stop.wait(interval):
            return
        before, wanted = wanted, config.content if config else wanted
        if wanted is not before:
            models.configure(wanted)
        if wanted is not before or options.poll_seconds > 0:
            models.refresh()


def _nothing_to_serve(models: Models) -> str:
    """Why no model has a version that can be served, for the first of them."""
    name = next(iter(models.versions()))
    states, base_path = models.states(name), models.base_path(name)
    if not states:
        return (
            f"expected numeric version directories in {base_path}, found none: "
            "write one with `python -m serving.export --output` and this directory"
        )
    newest = max(states)
    return f"no version in {base_path} can be served; version {newest}: {states[newest].message}"
