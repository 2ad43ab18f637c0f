"""`python -m benchmarks.quality`: what it makes, keeps and refuses; then a small table by the real commands."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import steps
from benchmarks.quality import (
    __main__ as quality,
)
from benchmarks.quality import (
    cells,
    data_sets,
    figures,
)
from benchmarks.quality.cells import Cell
from benchmarks.quality.data_sets import DataSet
from tfrs_mmse import per_query, trec
from tfrs_mmse.cli import CommandError

NAN = float("nan")


def test_settings_are_for_all_systems_or_for_one() -> None:
    settings = ["epochs=1", "mmse:grains=word", "two_tower:epochs=2"]
    assert quality.settings_of("mmse", settings) == ("epochs=1", "grains=word")
    assert quality.settings_of("two_tower", settings) == ("epochs=1", "epochs=2")
    with pytest.raises(CommandError, match="nmse:epochs=1: no such system; known are"):
        quality.settings_of("mmse", ["nmse:epochs=1"])
    with pytest.raises(CommandError, match="give seeds by --seeds"):
        quality.settings_of("mmse", ["mmse:seed=1"])


def test_bm25_alone_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--work", str(tmp_path), "--output", str(tmp_path)]
    assert quality.main(["--systems", "bm25", *where]) == 1
    assert "--systems names only bm25" in capsys.readouterr().err


class Commands:
    """Stands in for the processes: writes what each command would write, and remembers the command lines."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken = ""

    def run(self, module: str, *args: object, log: Path) -> Any:
        flags = dict(itertools.pairwise(map(str, args)))
        self.calls.append(" ".join([module, *map(str, args)]))
        if self.broken and self.broken in self.calls[-1]:
            raise steps.StepFailed("it broke")
        if module == "beam.preprocess":
            examples = Path(flags["--output"])
            examples.mkdir(parents=True)
            manifest = {"split_by": flags["--split-by"], "sources": str(examples)}
            (examples / "manifest.json").write_text(json.dumps(manifest))
        elif module == "beam.simulate":
            Path(flags["--output"]).mkdir(parents=True)
            utilities = {"query": ["tea", "nut"], "item_id": ["a", "b"]}
            utilities["order_utility"] = [0.2, 0.1]  # type: ignore[assignment]
            pq.write_table(
                pa.table(utilities), Path(flags["--output"]) / "truth.parquet"
            )
        elif module == "tfrs_mmse.train":
            (Path(flags["--model-dir"]) / "checkpoints").mkdir(parents=True)
            return {"seconds": 2.0, "steps": 10}
        else:
            self.evaluate(flags, with_bm25="--no-bm25" not in args)
        return {}

    def evaluate(self, flags: dict[str, str], *, with_bm25: bool) -> None:
        folder, prefix = Path(flags["--model-dir"]), flags["--run-output"]
        (folder / "evaluation").mkdir()
        [system, _] = folder.parent.name.rsplit("-", 1)
        recall = {system: [0.5, 0.7], **({"bm25": [0.2, 0.5]} if with_bm25 else {})}
        ordered = {"recall@10": np.array([1.0, NAN])}
        found = {
            name: {"clicked": {"recall@10": np.array(values)}, "ordered": ordered}
            for name, values in recall.items()
        }
        per_query.write(folder / "evaluation/test.parquet", [b"nut", b"tea"], found)
        document = {"task": "t", "num_queries": 2, "num_items": 3, "bm25": {"k1": 0.4}}
        (folder / "evaluation/test.json").write_text(json.dumps(document))
        for name in [".run", *([".bm25.run"] if with_bm25 else [])]:
            Path(f"{prefix}{name}").write_text(
                f"{trec.query_id(b'tea')} Q0 a 1 0.5 x\n"
            )
        Path(f"{prefix}.qrels").write_text("")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    commands = Commands()
    monkeypatch.setattr(steps, "run", commands.run)
    return commands


def arguments(tmp_path: Path, *more: str) -> list[str]:
    where = ["--work", str(tmp_path / "work"), "--output", str(tmp_path / "out")]
    small = ["--data", "simulator", "--splits", "time", "--seeds", "0", "1"]
    return [*where, *small, "--systems", "mmse", "two_tower", *more]


def test_finished_cells_are_kept_and_other_systems_add_to_the_table(
    tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality.main(arguments(tmp_path)) == 0
    capsys.readouterr()
    kinds = [call.split()[0] for call in commands.calls]
    assert kinds == ["beam.simulate", "beam.preprocess"] + 4 * [
        "tfrs_mmse.train",
        "tfrs_mmse.evaluate",
    ]
    assert [
        "--no-bm25" in call for call in commands.calls if "tfrs_mmse.evaluate" in call
    ] == [False, True, True, True]
    first = (tmp_path / "out/quality.json").read_text()
    assert {
        (r["system"], r["level"], r["metric"], r["mean"]) for r in json.loads(first)
    } == {
        (system, level, metric, mean)
        for system, recall in (("bm25", 0.35), ("mmse", 0.6), ("two_tower", 0.6))
        for level, metric, mean in (
            ("clicked", "recall@10", recall),
            ("ordered", "recall@10", 1.0),
            ("ordered", "utility_ndcg@10", 0.5),  # `tea` is answered, `nut` is not
        )
    }
    assert not list((tmp_path / "work").rglob("checkpoints"))

    commands.calls.clear()
    assert quality.main(arguments(tmp_path)) == 0
    assert json.loads(capsys.readouterr().out)["measurements"]["cells_made"] == 0
    assert commands.calls == []
    assert (tmp_path / "out/quality.json").read_text() == first

    assert quality.main(arguments(tmp_path, "--systems", "dpsr", "--seeds", "0")) == 0
    assert [call.split()[0] for call in commands.calls] == [
        "tfrs_mmse.train",
        "tfrs_mmse.evaluate",
    ]
    table = json.loads((tmp_path / "out/quality.json").read_text())
    assert list(dict.fromkeys(r["system"] for r in table)) == [
        "bm25",
        "mmse",
        "two_tower",
        "dpsr",
    ]


def test_a_cell_that_fails_is_named_at_the_end_and_made_by_the_next_call(
    tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.broken = "--preset mmse --set seed=0"
    assert quality.main(arguments(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert list(json.loads(out)["measurements"]["failed"]) == ["simulator time mmse 0"]
    assert err.splitlines()[-1] == (
        "error: 1 failed and are not in the table (simulator time mmse 0); the same command tries them again"
    )
    table = json.loads((tmp_path / "out/quality.json").read_text())
    assert {tuple(r["seeds"]) for r in table if r["system"] == "mmse"} == {(1,)}

    commands.broken = ""
    commands.calls.clear()
    assert quality.main(arguments(tmp_path)) == 0
    assert sum("tfrs_mmse.train" in call for call in commands.calls) == 1


def test_cells_made_side_by_side_give_the_same_table(
    tmp_path: Path, commands: Commands
) -> None:
    for jobs in ("1", "3"):
        where = tmp_path / jobs
        assert quality.main(arguments(where, "--jobs", jobs)) == 0
    one, three = (tmp_path / jobs / "out" for jobs in ("1", "3"))
    assert (one / "quality.json").read_bytes() == (three / "quality.json").read_bytes()
    assert "3 trainings at a time" in (three / "quality.md").read_text()

    commands.broken = "--preset mmse --set seed=0"
    assert quality.main(arguments(tmp_path / "broken", "--jobs", "3")) == 1
    table = json.loads((tmp_path / "broken/out/quality.json").read_text())
    assert {tuple(r["seeds"]) for r in table if r["system"] == "mmse"} == {(1,)}


def test_what_was_trained_is_only_evaluated_when_that_failed(
    tmp_path: Path, commands: Commands
) -> None:
    commands.broken = "tfrs_mmse.evaluate"
    assert quality.main(arguments(tmp_path)) == 1
    assert not (tmp_path / "out").exists()
    commands.broken = ""
    commands.calls.clear()
    assert quality.main(arguments(tmp_path)) == 0
    assert not any("tfrs_mmse.train" in call for call in commands.calls)


def test_another_config_is_refused_before_any_work_unless_redo_is_given(
    tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality.main(arguments(tmp_path)) == 0
    commands.calls.clear()
    changed = arguments(tmp_path, "--set", "two_tower:epochs=3")
    assert quality.main(changed) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "with other values (epochs 12 -> 3, settings [] -> ['epochs=3'])" in last
    assert commands.calls == []

    assert quality.main([*changed, "--redo"]) == 0
    trained = [call for call in commands.calls if "tfrs_mmse.train" in call]
    assert len(trained) == 2
    assert all("--set epochs=3 --set seed=" in call for call in trained)
    text = (tmp_path / "out/quality.md").read_text()
    assert "Not the presets' own values: `epochs=3` for `two_tower`." in text


def test_seeds_of_different_settings_are_not_averaged(
    tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality.main(arguments(tmp_path, "--seeds", "0")) == 0
    other = arguments(tmp_path, "--seeds", "1", "--set", "epochs=3")
    assert quality.main(other) == 1
    assert "were trained with different settings" in capsys.readouterr().err


def test_figures_of_a_preset_that_changed_are_left_out_until_they_are_made_again(
    tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality.main(arguments(tmp_path)) == 0
    path = figures.path_of(tmp_path / "out", "simulator", "time")
    kept = figures.read(path)
    [changed] = [k for k in kept.kept if (k.system, k.seed) == ("mmse", 0)]
    changed.description["config"]["epochs"] = 13
    figures.write(path, kept)
    shutil.rmtree(tmp_path / "work/simulator-time/mmse-0")
    assert quality.main(arguments(tmp_path, "--systems", "dpsr")) == 0
    assert "simulator time mmse 0 is left out of the table, changed are epochs 13 -> 12" in (
        capsys.readouterr().err
    )  # fmt: skip
    table = json.loads((tmp_path / "out/quality.json").read_text())
    seeds = {r["system"]: r["seeds"] for r in table}
    assert seeds == {"bm25": [0, 1], "mmse": [1], "two_tower": [0, 1], "dpsr": [0, 1]}

    assert quality.main(arguments(tmp_path)) == 0
    table = json.loads((tmp_path / "out/quality.json").read_text())
    assert {r["system"]: r["seeds"] for r in table}["mmse"] == [0, 1]


def test_a_config_field_that_came_later_or_is_gone_had_its_default_then(
    tmp_path: Path, commands: Commands
) -> None:
    assert quality.main(arguments(tmp_path)) == 0
    first = (tmp_path / "out/quality.json").read_text()
    path = figures.path_of(tmp_path / "out", "simulator", "time")
    kept = figures.read(path)
    for cell in kept.of("mmse"):
        del cell.description["config"]["ordered_share"]  # 0.5, as in TrainConfig
        cell.description["config"]["adaptive_temperature"] = False
    figures.write(path, kept)
    (tmp_path / "work").rename(tmp_path / "elsewhere")
    commands.calls.clear()
    assert quality.main(arguments(tmp_path)) == 0
    assert not any("tfrs_mmse.train" in call for call in commands.calls)
    assert (tmp_path / "out/quality.json").read_text() == first

    for cell in kept.of("mmse"):
        cell.description["config"]["adaptive_temperature"] = True
    figures.write(path, kept)
    commands.calls.clear()
    assert quality.main(arguments(tmp_path)) == 0
    assert sum("--preset mmse" in call for call in commands.calls) == 2


def test_the_table_can_be_added_to_where_the_runs_behind_it_are_not(
    tmp_path: Path, commands: Commands
) -> None:
    assert quality.main(arguments(tmp_path)) == 0
    first = (tmp_path / "out/quality.json").read_text()
    text = (tmp_path / "out/quality.md").read_text()
    (tmp_path / "work").rename(tmp_path / "elsewhere")
    commands.calls.clear()
    assert quality.main(arguments(tmp_path)) == 0
    kinds = [call.split()[0] for call in commands.calls]
    assert kinds == ["beam.simulate", "beam.preprocess"]
    assert (tmp_path / "out/quality.json").read_text() == first
    assert (tmp_path / "out/quality.md").read_text() == text

    assert quality.main(arguments(tmp_path, "--systems", "dpsr", "--seeds", "0")) == 0
    table = json.loads((tmp_path / "out/quality.json").read_text())
    assert {r["system"] for r in table} == {"bm25", "mmse", "two_tower", "dpsr"}


def test_rows_of_data_that_are_not_here_are_kept(
    tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality.main(arguments(tmp_path)) == 0
    absent = ["--elo7", str(tmp_path), "--data", "elo7", "simulator"]
    assert quality.main(arguments(tmp_path, *absent, "--splits", "query")) == 0
    out, err = capsys.readouterr()
    assert f"elo7 is left out: expected convert.py or examples in {tmp_path}" in err
    assert '"left_out": [\n      "elo7 query"' in out
    table = json.loads((tmp_path / "out/quality.json").read_text())
    assert {(r["data"], r["split"]) for r in table} == {
        ("simulator", "time"),
        ("simulator", "query"),
    }


def test_figures_of_other_examples_are_dropped(
    tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality.main(arguments(tmp_path)) == 0
    shutil.rmtree(tmp_path / "work/simulator-time/mmse-0")
    manifest = tmp_path / "work/simulator-time/examples/manifest.json"
    manifest.write_text('{"split_by": "time", "more": "words"}')
    only = ["--systems", "mmse", "--seeds", "0"]
    assert quality.main(arguments(tmp_path, *only)) == 0
    assert "held 5 cells of other examples, which are dropped" in (
        capsys.readouterr().err
    )
    table = json.loads((tmp_path / "out/quality.json").read_text())
    assert {r["system"]: r["seeds"] for r in table} == {"bm25": [0], "mmse": [0]}


def test_kept_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = figures.path_of(tmp_path, "elo7", "query")
    found = {"clicked": {"recall@10": np.array([0.5, NAN, 1.0])}}
    cell = figures.Kept("mmse", 3, {"settings": ["epochs=1"]}, {"machine": {}}, found)
    figures.write(
        path, figures.DataSetFigures("elo7", "query", "s", "t", 3, 9, (cell,))
    )
    [again] = figures.read_all(tmp_path)
    assert again._replace(kept=()) == ("elo7", "query", "s", "t", 3, 9, ())
    assert again.of("mmse")[0][:4] == cell[:4]
    np.testing.assert_equal(again.of("mmse")[0].figures, found)


def test_the_table_is_of_all_data_sets_in_the_folder(
    tmp_path: Path, commands: Commands
) -> None:
    assert quality.main(arguments(tmp_path, "--systems", "mmse")) == 0
    assert quality.main(arguments(tmp_path, "--splits", "query")) == 0
    text = (tmp_path / "out/quality.md").read_text()
    assert "## simulator, split by query" in text
    assert "## simulator, split by time" in text
    assert text.count("Logs: `python -m beam.simulate --requests 30000") == 2


@pytest.mark.parametrize("is_parquet", [True, False])
def test_a_file_that_holds_no_figures_is_not_overwritten(
    is_parquet: bool,
    tmp_path: Path,
    commands: Commands,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = figures.path_of(tmp_path / "out", "simulator", "time")
    path.parent.mkdir(parents=True)
    if is_parquet:
        pq.write_table(pa.table({"x": [1]}), path)
    else:
        path.write_text("figures")
    before = path.read_bytes()
    assert quality.main(arguments(tmp_path)) == 1
    assert "expected figures of an earlier table in" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_another_shop_in_the_same_work_folder_is_refused(
    tmp_path: Path, commands: Commands
) -> None:
    small = data_sets.Sources(tmp_path, requests=100, items=50)
    data_sets.prepare("simulator", "time", small, tmp_path)
    with pytest.raises(
        CommandError, match=r"'requests': 100.* not from .*'requests': 200"
    ):
        data_sets.prepare("simulator", "time", small._replace(requests=200), tmp_path)


def test_a_step_that_fails_says_its_last_words_and_where_its_log_is(
    tmp_path: Path,
) -> None:
    with pytest.raises(steps.StepFailed) as failed:
        steps.run(
            "tfrs_mmse.train",
            "--data",
            tmp_path,
            "--model-dir",
            tmp_path / "m",
            "--set",
            "x=1",
            log=tmp_path / "train.log",
        )
    assert "ended with exit status 1 (--set x: no such config field" in str(
        failed.value
    )
    assert str(failed.value).endswith(f"its log is {tmp_path / 'train.log'}")


def test_a_cell_is_finished_only_with_all_of_its_files(
    tmp_path: Path, commands: Commands
) -> None:
    assert quality.main(arguments(tmp_path)) == 0
    folder = tmp_path / "work/simulator-time"
    cell = Cell(
        DataSet("simulator", "time", folder, folder / "examples", ""), "mmse", 0
    )
    assert cells.is_finished(cell)
    (cell.folder / "test.qrels").unlink()
    assert not cells.is_finished(cell)


@pytest.mark.slow
def test_a_small_table_comes_from_the_real_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        *arguments(tmp_path, "--systems", "mmse", "bm25"),
        *("--requests", "600", "--items", "300", "--set", "epochs=1"),
        *("--set", "embedding_dim=16", "--set", "batch_size=128"),
        *("--set", "grains=word,category"),
    ]
    assert quality.main(argv) == 0
    first = json.loads(capsys.readouterr().out)["measurements"]
    assert (first["cells_made"], first["failed"]) == (2, {})
    table = json.loads((tmp_path / "out/quality.json").read_text())
    assert {(r["data"], r["split"]) for r in table} == {("simulator", "time")}
    assert {r["system"] for r in table} == {"bm25", "mmse"}
    assert {(r["level"], r["metric"]) for r in table} == {
        *(("clicked", f"recall@{k}") for k in (10, 100, 1000)),
        *(("ordered", f"recall@{k}") for k in (10, 100, 1000)),
        ("ordered", "utility_ndcg@10"),
        ("all", "ndcg@10"),
    }
    assert all(0 < r["mean"] <= 1 and r["seeds"] == [0, 1] for r in table)
    # The same figure by another scorer from the files: it counts queries without a clicked item as 0.
    means = {
        (r["system"], r["metric"]): r["mean"] for r in table if r["level"] == "clicked"
    }
    for system, name in (("mmse", "test.run"), ("bm25", "test.bm25.run")):
        cells_with_run = list((tmp_path / "work/simulator-time").glob(f"*/{name}"))
        recomputed = []
        for run in cells_with_run:
            qrels = list(ir_measures.read_trec_qrels(str(run.parent / "test.qrels")))
            relevant = {q.query_id for q in qrels if q.relevance >= 2}
            share = len(relevant) / len({q.query_id for q in qrels})
            measure = ir_measures.R(rel=2) @ 10
            found = ir_measures.read_trec_run(str(run))
            value = ir_measures.calc_aggregate([measure], qrels, found)[measure]
            recomputed.append(value / share)
        assert means[system, "recall@10"] == pytest.approx(
            np.mean(recomputed), abs=2e-6
        )

    assert quality.main(argv) == 0
    assert json.loads(capsys.readouterr().out)["measurements"]["cells_made"] == 0
    assert json.loads((tmp_path / "out/quality.json").read_text()) == table
