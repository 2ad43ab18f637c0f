"""How a pipeline is run: quietly on this machine unless a runner is named, with our own errors as one sentence."""

import contextlib
import logging
import os
import re
from collections.abc import Sequence

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import (
    DirectOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult

from beam.workers import guarded, is_lost_connection
from tfrs_mmse.cli import CommandError

_SMALL_BYTES = 64 << 20  # less is done sooner than other processes have started
_LOCAL_RUNNERS = (None, "direct", "directrunner")
# Beam's loggers that tell of an error in a worker, and the one for messages from a job server.
_LOGGERS = (
    "apache_beam.runners.common",
    "apache_beam.runners.worker.data_plane",
    "apache_beam.runners.worker.sdk_worker",
    None,
)
_NAME = "CommandError: "  # before the sentence, where an error is known by its traceback only
# Beam wraps what a worker raises: in the message here, as a printed traceback when it comes from another machine.
_WRAPPED = re.compile(
    r"(?:.*^(?:\w+\.)*CommandError: )?(?P<sentence>.*?)\s*\[while running '",
    re.DOTALL | re.MULTILINE,
)


def unknown_flags(flags: Sequence[str]) -> list[str]:
    """The command-line words that no pipeline option of Beam takes; Beam itself would only pass them over."""
    unknown: list[str] = []
    PipelineOptions(list(flags)).get_all_options(
        add_extra_args_fn=lambda parser: unknown.extend(
            parser.parse_known_args(list(flags))[1]
        )
    )
    return unknown


ONE_PROCESS = ("--direct_num_workers=1", "--direct_running_mode=in_memory")


def is_local(flags: Sequence[str]) -> bool:
    """Whether these pipeline options leave the work to this machine: no other runner is named."""
    runner = PipelineOptions(list(flags)).view_as(StandardOptions).runner
    return runner is None or runner.lower() in _LOCAL_RUNNERS


def chooses_processes(flags: Sequence[str], *, num_bytes: int) -> bool:
    """Whether it is `make_pipeline` that decides to work in several processes: nobody has asked for them."""
    return (
        is_local(flags)
        and not any(flag.startswith("--direct") for flag in flags)
        and num_bytes > _SMALL_BYTES
        and len(os.sched_getaffinity(0)) > 1
    )


def make_pipeline(flags: Sequence[str], *, num_bytes: int = 0) -> beam.Pipeline:
    """A pipeline with Beam's options.

    Beam's own local default would first look for the Prism runner, which is a download; the one here comes with Beam.
    It works in one process, so for more than a little input, and where the flags do not say otherwise, it is told to
    use a process for each core.

    Args:
        flags: Pipeline options, as on the command line.
        num_bytes: About how large the input is.
    """
    options = PipelineOptions(list(flags))
    if not is_local(flags):
        return beam.Pipeline(options=options)
    if chooses_processes(flags, num_bytes=num_bytes):
        direct = options.view_as(DirectOptions)
        direct.direct_num_workers = len(os.sched_getaffinity(0))
        direct.direct_running_mode = "multi_processing"
    return beam.Pipeline(runner=FnApiRunner(), options=options)


def run(pipeline: beam.Pipeline) -> PipelineResult:
    """Runs a pipeline to its end.

    Raises:
        CommandError: a worker raised it, or a part of the runner is gone.
        KeyboardInterrupt: the command was told to end (Ctrl-C or SIGTERM); the job was told so, too.
    """
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_news)
    # It tells that Flink's job server ends with the command.
    logging.getLogger("apache_beam.utils.subprocess_server").setLevel(logging.ERROR)
    with guarded():
        try:
            return _run(pipeline)
        except CommandError as e:
            raise CommandError(_sentence(str(e))) from None
        except grpc.RpcError as e:
            raise CommandError(
                f"the runner is gone before the job was done: {_details(e)}"
            ) from None
        except Exception as e:  # of what type depends on the runner
            if is_interrupt(e):
                raise KeyboardInterrupt from None
            if _NAME not in str(e):
                raise
            raise CommandError(_sentence(str(e))) from None


def _run(pipeline: beam.Pipeline) -> PipelineResult:
    result = pipeline.run()
    try:
        result.wait_until_finish()
    except KeyboardInterrupt:
        with contextlib.suppress(
            Exception
        ):  # a runner that is gone has nothing left to cancel
            result.cancel()
        raise
    return result


def is_interrupt(error: BaseException | None) -> bool:
    """Whether it is Ctrl-C or SIGTERM, maybe in the words of Beam, whose worker in this process was at work then."""
    return isinstance(error, KeyboardInterrupt) or str(error).startswith(
        "KeyboardInterrupt"
    )


def _details(error: grpc.RpcError) -> str:
    return error.details() if isinstance(error, grpc.Call) else str(error)


def _sentence(message: str) -> str:
    found = _WRAPPED.match(message)
    return found["sentence"] if found else message


def _is_news(record: logging.LogRecord) -> bool:
    """False for what Beam logs of an error that becomes one sentence at the end."""
    error = record.exc_info[1] if record.exc_info else None
    return not (
        isinstance(error, CommandError)
        or is_lost_connection(error)
        or is_interrupt(error)
        or _NAME in record.getMessage()
    )
