"""The demo on a very small shop: every command runs, and nothing is left running."""

import json
from pathlib import Path

import pytest

from benchmarks import demo


@pytest.mark.slow
def test_the_demo_goes_from_logs_to_answers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ["--requests", "600", "--items", "300", "--epochs", "1", "--index", "exact"]
    assert demo.main(["--output", str(tmp_path / "demo"), *argv]) == 0
    out, err = capfd.readouterr()
    result = json.loads(out)
    assert set(result["systems"]) == {"bm25", "two_tower", "mmse"}
    assert result["export"]["num_items"] == 300
    assert "Held-out requests of the last part of the period" in err
    assert err.count("rank   score  item_id   title") == 5


def test_a_step_that_fails_ends_the_demo_with_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert demo.main(["--output", str(tmp_path / "file")]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith(
        "error: the step above failed with exit status 1"
    )
