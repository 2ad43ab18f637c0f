"""Beam's options, and errors from workers as one sentence."""

import signal
import time

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DirectOptions

from beam.local import make_pipeline, run, unknown_flags
from tfrs_mmse.cli import CommandError


def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("flags", "unknown"),
    [
        (["--runner", "DirectRunner", "--direct_num_workers=2"], []),
        (["--split-bye", "time"], ["--split-bye", "time"]),
        (["--split-bye=time", "--runner=DirectRunner"], ["--split-bye=time"]),
        (["stray"], ["stray"]),
    ],
)
def test_flags_that_beam_does_not_know_are_found(
    flags: list[str], unknown: list[str]
) -> None:
    assert unknown_flags(flags) == unknown


@pytest.mark.parametrize(
    ("flags", "num_bytes", "mode"),
    [
        ([], 1000, "in_memory"),
        ([], 1 << 30, "multi_processing"),
        (["--direct_running_mode=in_memory"], 1 << 30, "in_memory"),
        (["--runner=DirectRunner"], 1 << 30, "multi_processing"),
    ],
)
def test_a_large_input_is_worked_on_by_all_cores(
    flags: list[str], num_bytes: int, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    direct = make_pipeline(flags, num_bytes=num_bytes).options.view_as(DirectOptions)
    assert direct.direct_running_mode == mode
    assert direct.direct_num_workers == (3 if mode == "multi_processing" else 1)


def test_ctrl_c_in_a_step_of_this_process_is_an_interrupt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline = make_pipeline([])
    _ = (
        pipeline
        | beam.Create([signal.SIGINT])
        | beam.Map(lambda number: (signal.raise_signal(number), time.sleep(60)))
    )
    with pytest.raises(KeyboardInterrupt):
        run(pipeline)
    assert not caplog.records


def test_our_error_in_a_worker_is_one_sentence_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline = make_pipeline([])
    _ = (
        pipeline
        | beam.Create([CommandError("a.jsonl is broken (end of\nfile); copy it")])
        | beam.Map(fail)
    )
    with pytest.raises(CommandError) as raised:
        run(pipeline)
    assert str(raised.value) == "a.jsonl is broken (end of\nfile); copy it"
    assert not caplog.records


def test_our_error_from_another_machine_is_found_in_its_traceback() -> None:
    class Remote:
        def run(self) -> None:
            raise RuntimeError(
                "Error received from SDK harness: Traceback (most recent call last):\n"
                '  File "sources.py", line 1, in read_rows\n'
                "    raise CommandError(f'{path} is broken')\n"
                "tfrs_mmse.cli.CommandError: a.jsonl is broken\n\n"
                "During handling of the above exception, another exception occurred:\n\n"
                '  File "common.py", line 2, in process\n'
                "tfrs_mmse.cli.CommandError: a.jsonl is broken [while running 'ReadEvents/ReadRows-ptransform-4']\n"
            )

    with pytest.raises(CommandError, match=r"^a.jsonl is broken$"):
        run(Remote())  # type: ignore[arg-type]


def test_a_mistake_of_ours_keeps_its_type() -> None:
    pipeline = make_pipeline(["--runner=DirectRunner"])
    _ = pipeline | beam.Create([KeyError("a bug")]) | beam.Map(fail)
    with pytest.raises(KeyError, match=r"a bug"):
        run(pipeline)
