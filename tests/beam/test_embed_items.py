"""`python -m beam.embed_items`: whose vectors they are, and where every row of the catalogue went."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from beam import embedding, preprocess
from beam.embed_items import main
from beam.item_tower import ItemTable, ItemTower, ItemTowerHandler
from tfrs_mmse import corpus, restore, schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.embeddings import SAMPLE, EmbeddingsManifest


def arguments(
    shop: Any,
    output: Path,
    items: Path | str,
    *flags: str,
    model_dir: Path | None = None,
) -> list[str]:
    model = str(model_dir or shop.model_dir)
    return [
        "--model-dir",
        model,
        "--items",
        str(items),
        "--output",
        str(output),
        *flags,
    ]


def read(directory: Path) -> dict[str, tuple[str, list[float]]]:
    """Title and embedding by item id; no item twice."""
    rows = []
    for path in sorted(directory.glob("*.parquet")):
        rows += pq.read_table(path).to_pylist()
    found = {row["item_id"]: (row["title"], row["embedding"]) for row in rows}
    assert len(found) == len(rows)
    return found


def rows_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_vectors_are_those_that_the_model_gives_the_examples(
    simulated_shop: Any, embedded_shop: Any
) -> None:
    trained = restore.load_trained(simulated_shop.examples, embedded_shop.model_dir)
    wanted = corpus.embed_items(trained, simulated_shop.examples)
    found = read(embedded_shop.embeddings)
    assert len(found) == 300
    names = [name.decode() for name in wanted.item_id]
    assert found.keys() == set(names)
    assert [found[name][0] for name in names] == [t.decode() for t in wanted.title]
    vectors = np.array([found[name][1] for name in names])
    np.testing.assert_allclose(vectors, wanted.embedding, atol=1e-6)


def test_the_manifest_says_whose_they_are(
    simulated_shop: Any, embedded_shop: Any
) -> None:
    manifest = EmbeddingsManifest.read(embedded_shop.embeddings)
    examples = schema.Manifest.read(simulated_shop.examples)
    towers = restore.load_towers(embedded_shop.model_dir)
    assert manifest == EmbeddingsManifest(
        features=examples.features,
        vocabulary_hash=examples.vocabulary_hash,
        model_fingerprint=restore.fingerprint(towers.config, towers.model),
        dimensions=3 * 8 + 4 * 4,  # three text grains; brand, category, color and price
        num_items=300,
        num_shards=1,
        accounting={"items": {"read": 300, "used": 300}},
        sources=[str(simulated_shop.items)],
    )
    assert sorted(path.name for path in embedded_shop.embeddings.iterdir()) == [
        "embeddings-00000-of-00001.parquet",
        "manifest.json",
    ]


def test_the_order_of_the_rows_and_their_files_changes_no_byte(
    simulated_shop: Any, embedded_shop: Any, tmp_path: Path
) -> None:
    rows = rows_of(simulated_shop.items)[::-1]
    write(tmp_path / "a.jsonl", rows[:100])
    write(tmp_path / "b.jsonl", rows[100:])
    output = tmp_path / "out"
    assert main(arguments(embedded_shop, output, tmp_path / "*.jsonl")) == 0
    name = "embeddings-00000-of-00001.parquet"
    former = embedded_shop.embeddings / name
    assert (output / name).read_bytes() == former.read_bytes()


@pytest.mark.slow
def test_several_processes_write_the_same_bytes_as_one(
    simulated_shop: Any,
    embedded_shop: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedding, "_SHARD_BYTES", 50_000)
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    for name, beam_flags in (("one", []), ("two", flags)):
        argv = arguments(embedded_shop, tmp_path / name, simulated_shop.items)
        assert main([*argv, *beam_flags]) == 0
    paths = sorted((tmp_path / "one").iterdir())
    assert len(paths) > 2
    for path in paths:
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


def test_every_item_is_in_one_of_many_shards_which_can_be_checked_by_itself(
    simulated_shop: Any,
    embedded_shop: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The hash leaves some of so many shards empty: they are written, so that the set is seen to be whole.
    monkeypatch.setattr(embedding, "_SHARD_BYTES", 500)
    items = write(tmp_path / "items.jsonl", rows_of(simulated_shop.items)[:40])
    assert main(arguments(embedded_shop, tmp_path / "out", items)) == 0
    manifest = EmbeddingsManifest.read(tmp_path / "out")
    shards = [pq.read_table(tmp_path / "out" / name) for name in manifest.shards()]
    sizes = [shard.num_rows for shard in shards]
    assert sum(sizes) == 40 and 0 in sizes and max(sizes) > 2
    samples = [json.loads(shard.schema.metadata[SAMPLE]) for shard in shards]
    assert [len(s["title"]) for s in samples] == [min(size, 2) for size in sizes]
    of_all = read(embedded_shop.embeddings)
    for name, (title, vector) in read(tmp_path / "out").items():
        assert of_all[name][0] == title
        np.testing.assert_allclose(of_all[name][1], vector, atol=1e-6)


def test_every_row_is_accounted_for(
    simulated_shop: Any, embedded_shop: Any, tmp_path: Path, capsys: Any
) -> None:
    row = rows_of(simulated_shop.items)[0]
    rows = [
        row | {"item_id": "old", "title": "Red shoe", "updated_at": 1},
        row | {"item_id": "new", "title": "Red shoe"},
        row | {"item_id": "old", "title": "Blue hat", "updated_at": 2},
        row | {"item_id": "", "title": "Nobody"},
        row | {"item_id": "blank", "title": " "},
    ]
    items = write(tmp_path / "items.jsonl", rows)
    items.write_text(items.read_text() + "{\n")
    argv = arguments(embedded_shop, tmp_path / "out", items)
    capsys.readouterr()

    assert main(argv) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: 3 of 6 rows of items were rejected (empty_title 1, ")
    assert "more than max_rejected = 1.00% allows" in said
    letters = tmp_path / "out/_unfinished/rejected-items-00000-of-00001.jsonl"
    assert [json.loads(line)["reason"] for line in letters.open()] == [
        "missing_field",
        "empty_title",
        "not_json",
    ]
    assert not (tmp_path / "out/manifest.json").exists()

    assert main([*argv, "--max-rejected", "0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["accounting"]["items"] == {
        "dropped_duplicate_item": 1,
        "read": 6,
        "rejected_empty_title": 1,
        "rejected_missing_field": 1,
        "rejected_not_json": 1,
        "used": 2,
    }
    titles = {name: title for name, (title, _) in read(tmp_path / "out").items()}
    assert titles == {"old": "Blue hat", "new": "Red shoe"}


def test_other_columns_are_named_in_a_config(
    simulated_shop: Any, embedded_shop: Any, tmp_path: Path, capsys: Any
) -> None:
    rows = rows_of(simulated_shop.items)
    renamed = [{"sku": row.pop("item_id"), **row} for row in rows]
    items = write(tmp_path / "items.jsonl", renamed)
    argv = arguments(embedded_shop, tmp_path / "out", items)
    assert main(argv) == 1
    assert "the model reads the columns item_id, which" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    config = tmp_path / "config.json"
    config.write_text('{"item_columns": {"item_id": "sku"}}')
    assert main([*argv, "--config", str(config)]) == 0
    assert read(tmp_path / "out") == read(embedded_shop.embeddings)


def test_what_others_wrote_is_not_replaced(
    simulated_shop: Any, embedded_shop: Any, capsys: Any
) -> None:
    examples = simulated_shop.examples
    assert main(arguments(embedded_shop, examples, simulated_shop.items)) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"the output directory {examples} holds items-00000-of-" in said
    assert "which beam.embed_items did not write" in said
    # Nor the other way round.
    flags = ["--items", str(simulated_shop.items), "--output"]
    assert preprocess.main([*flags, str(embedded_shop.embeddings)]) == 1
    assert "which preprocessing did not write" in capsys.readouterr().err


def test_a_model_that_changes_meanwhile_is_refused_in_one_sentence(
    simulated_shop: Any,
    embedded_shop: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    first = ItemTower.facts
    asked: list[int] = []

    def facts(tower: ItemTower) -> Any:
        asked.append(1)
        return first(tower)._replace(fingerprint=f"{len(asked)}")

    monkeypatch.setattr(ItemTower, "facts", facts)
    argv = arguments(embedded_shop, tmp_path / "out", simulated_shop.items)
    assert main(argv) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"error: the model in {embedded_shop.model_dir} changed while it was used; "
        "start again when its training is over"
    )


def test_a_model_without_numbers_is_refused(embedded_shop: Any) -> None:
    class Diverged:
        def embed(self, items: Any) -> np.ndarray:
            return np.full([1, 4], np.nan, np.float32)

    handler = ItemTowerHandler(embedded_shop.model_dir, "")
    batch = [ItemTable(0, pl.DataFrame({"item_id": ["a"]}))]
    with pytest.raises(CommandError, match="not finite: its training diverged"):
        list(handler.run_inference(batch, Diverged()))  # type: ignore[arg-type]


def test_help_is_there_without_the_heavy_libraries() -> None:
    code = "import sys; from beam.embed_items import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'tensorflow', 'apache_beam', 'pyarrow'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert "--model-dir DIR" in done.stdout


def test_a_flag_that_nobody_knows_is_refused(capsys: Any) -> None:
    argv = ["--model-dir", "m", "--items", "i", "--output", "o", "--max-reject", "1"]
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert "unrecognized arguments: --max-reject" in capsys.readouterr().err
