from pathlib import Path

from tfrs_mmse.report import training


def test_reads_every_number_over_the_epochs(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"epoch": 1, "loss": 3.5, "note": "x", "ranking_loss": 0.0}\n'
        '{"epoch": 2, "loss": 2, "ranking_loss": 0.0, "fusion/word": 0.5}\n'
        '{"epoch": 3, "lo'
    )
    # What is 0 throughout was off; the last line is being written.
    assert training.read_curves(path) == {
        "loss": [(1, 3.5), (2, 2)],
        "fusion/word": [(2, 0.5)],
    }


def test_a_run_without_a_log_says_so(tmp_path: Path) -> None:
    [said] = training.section(tmp_path).body
    assert said is not None and not isinstance(said, str)
    assert said.text == "There is no metrics.jsonl beside the model."


def test_there_is_a_plot_a_number_and_one_for_all_weights(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"epoch": 1, "retrieval_loss": 3.5, "fusion/a": 0.5, "fusion/b": 0.5}\n'
    )
    [plots] = training.section(tmp_path).body
    assert plots is not None and not isinstance(plots, str)
    assert [c.text for c in plots.iter("figcaption")] == [
        "retrieval loss",
        "fusion weights",
    ]
