"""`quality.md`: the rows as tables for people, with what one must know to read them."""

import shlex
import string
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks.quality.cells import BM25
from benchmarks.quality.pairwise import REFERENCE
from benchmarks.quality.rows import Row
from tfrs_mmse.presets import WITH, WITHOUT

COLUMNS = (
    ("clicked", "recall@10"),
    ("clicked", "recall@100"),
    ("ordered", "recall@10"),
    ("ordered", "recall@100"),
    ("all", "ndcg@10"),
    ("ordered", "utility_ndcg@10"),
)
"""Levels and metrics of the tables; the others are in the rows alone."""

NOTES = {
    "elo7": "Real search clicks of the Brazilian marketplace Elo7, published for its open data challenge. Real, by the "
    "data's converter: queries, items, clicks and their positions. Inferred: which other items were shown. Proxy: an "
    "`ordered` item is a clicked one that had any order in the period, by whomever.",
    "simulator": "A simulated shop (`beam.simulate`). How far apart clicks and orders lie in it is an assumption "
    "(`beam/shop/behaviour.py`): the table says whether a method recovers a difference that is there. "
    "`utility_ndcg@10` judges the first ten results by the true probability of an order (if examined) as gain, 1 "
    "being the ten best items in the best order; what was logged plays no part in it.",
}
SPLIT_NOTES = {
    "query": "Held out: a share of the distinct queries, which training never saw.",
    "time": "Held out: the last part of the period; most of its queries were asked before.",
}
_READING = f"""\
Mean and sample standard deviation over the seeds. Recall is averaged over the queries that have a relevant item.
Letters name the systems that a figure is significantly above: per query and averaged over the seeds, by a two-sided
paired Student's t-test (`ranx`), corrected after Holm for all pairs of systems in the column, p < 0.05. The test
answers for the choice of queries; the standard deviation for that of the seed. `{BM25}` draws nothing at random.
"""
_CHANGES = {
    WITHOUT: (
        f"## What each part of `{REFERENCE}` is worth",
        f"The figure of `{REFERENCE}` minus that without the part (preset `{WITHOUT}PART`). A part without a bold "
        "positive figure did not show that it helps.",
        1,
    ),
    WITH: (
        f"## What another part in its place brings to `{REFERENCE}`",
        f"The figure with the other part (preset `{WITH}PART`) minus that of `{REFERENCE}`: what has no bold positive "
        "figure is not better.",
        -1,
    ),
}
_CHANGE_READING = """\
**Bold**: significant, by the same test, corrected for the lines of the table. –: not measured. The figures themselves
are in `quality.json`.
"""


class Facts(NamedTuple):
    """What a table of one data set was made of and how.

    Attributes:
        num_queries: Held-out queries.
        num_items: Items to retrieve from.
        source: The command that made the logs.
        bm25: Its tuned parameters; empty if they are not known.
        train_seconds: By system: the mean over its seeds.
        settings: By system: overrides of its preset.
        machines: Descriptions of the machines.
    """

    num_queries: int
    num_items: int
    source: str
    bm25: dict[str, float]
    train_seconds: dict[str, float]
    settings: dict[str, list[str]]
    machines: list[str]


def render(rows: Sequence[Row], facts: dict[str, Facts]) -> str:
    """The whole document.

    Args:
        rows: Of all data sets, those of one together.
        facts: By `data split`.
    """
    by_data_set: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_data_set.setdefault((row["data"], row["split"]), []).append(row)
    parts = [
        "# Retrieval quality\n",
        "Written by `python -m benchmarks.quality`; the rows are in `quality.json`, and the figures of every query in "
        "`figures/`.\n",
        _READING,
    ]
    for (data, split), of_data_set in by_data_set.items():
        parts += [f"## {data}, split by {split}\n", f"{NOTES.get(data, data)}\n"]
        parts.append(f"{SPLIT_NOTES.get(split, split)}\n")
        known = facts[f"{data} {split}"]
        parts.append("\n".join(_table(of_data_set, known)) + "\n")
        parts += [f"{line}\n" for line in _facts(known)]
        parts.append(f"Made by `{command(of_data_set)}`.\n")
    for prefix, (title, reading, sign) in _CHANGES.items():
        if lines := list(_changes(by_data_set, prefix, sign)):
            table = "\n".join(lines) + "\n"
            parts += [f"{title}\n", f"{reading}\n", _CHANGE_READING, table]
    return "\n".join(parts)


def command(rows: Sequence[Row]) -> str:
    """The command that makes the systems and seeds of one data set."""
    values = {
        "--data": dict.fromkeys(row["data"] for row in rows),
        "--splits": dict.fromkeys(row["split"] for row in rows),
        "--systems": dict.fromkeys(row["system"] for row in rows),
        "--seeds": {
            str(s): None for s in sorted({s for r in rows for s in r["seeds"]})
        },
    }
    flags = [part for flag, named in values.items() for part in (flag, *named)]
    return shlex.join(["python", "-m", "benchmarks.quality", *flags])


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    """The figures of the reference system over those of the baseline, by the names of data and figure."""
    return {
        f"{r['data']} {r['split']}: {r['level']} {r['metric']}, vs {BM25}": ratio
        for r, ratio in _with_ratio(rows)
    }


def _with_ratio(rows: Sequence[Row]) -> Iterator[tuple[Row, float]]:
    """The rows of the reference system that the baseline has too, not 0."""

    def key(row: Row) -> tuple[str, ...]:
        return row["data"], row["split"], row["level"], row["metric"]

    baseline = {key(r): r["mean"] for r in rows if r["system"] == BM25}
    for row in rows:
        if row["system"] == REFERENCE and baseline.get(key(row)):
            yield row, round(row["mean"] / baseline[key(row)], 4)


def letters(number: int) -> str:
    """a, b, ..., z, then aa, ab, ...: the name of the system with this number, from 0 on."""
    alphabet = string.ascii_lowercase
    if number < len(alphabet):
        return alphabet[number]
    return letters(number // len(alphabet) - 1) + alphabet[number % len(alphabet)]


def _table(rows: Sequence[Row], facts: Facts) -> Iterator[str]:
    """The systems of one data set, without those that are the reference with another part."""
    rows = [r for r in rows if not r["system"].startswith((WITHOUT, WITH))]
    by_key = {(r["system"], r["level"], r["metric"]): r for r in rows}
    systems = list(dict.fromkeys(row["system"] for row in rows))
    columns = [c for c in COLUMNS if any((s, *c) in by_key for s in systems)]
    letter = {system: letters(number) for number, system in enumerate(systems)}
    best = {
        c: max(by_key[s, *c]["mean"] for s in systems if (s, *c) in by_key)
        for c in columns
    }
    yield _line(
        ["", "system", *(f"{lv} {m}" for lv, m in columns), "seeds", "training"]
    )
    yield _line(["---"] * (len(columns) + 4))
    for system in systems:
        found = [by_key.get((system, *c)) for c in columns]
        figures = [
            _figure(row, best[c], letter) if row else "–"
            for row, c in zip(found, columns, strict=True)
        ]
        seeds = "" if system == BM25 else str(max(len(r["seeds"]) for r in found if r))
        seconds = facts.train_seconds.get(system)
        training = "" if seconds is None else f"{seconds:.0f} s"
        yield _line([letter[system], f"`{system}`", *figures, seeds, training])
    ratio = {(r["level"], r["metric"]): value for r, value in _with_ratio(rows)}
    if ratio:
        shown = [f"{ratio[c]:.3f}x" if c in ratio else "–" for c in columns]
        yield _line(["", f"`{REFERENCE}` / `{BM25}`", *shown, "", ""])


def _figure(row: Row, best: float, letter: dict[str, str]) -> str:
    mean = f"{row['mean']:.4f}"
    if row["mean"] == best:
        mean = f"**{mean}**"
    is_fixed = row["std"] is None or row["system"] == BM25
    spread = "" if is_fixed else f" ± {row['std']:.4f}"
    beaten = ",".join(letter[s] for s in row["better_than"] if s in letter)
    return f"{mean}{spread}{f' <sup>{beaten}</sup>' if beaten else ''}"


def _facts(facts: Facts) -> Iterator[str]:
    bm25 = ", ".join(f"{name} = {value}" for name, value in facts.bm25.items())
    tuned = f" BM25 (tuned on the train split's queries): {bm25}." if bm25 else ""
    yield (
        f"Logs: `{facts.source}`. {facts.num_queries} held-out queries, {facts.num_items} items.{tuned} "
        f"Machine: {'; '.join(facts.machines)}."
    )
    overridden: dict[str, list[str]] = {}
    for system, settings in facts.settings.items():
        if settings:
            overridden.setdefault(" ".join(settings), []).append(f"`{system}`")
    for values, systems in overridden.items():
        yield f"Not the presets' own values: `{values}` for {', '.join(systems)}."


def _changes(
    by_data_set: dict[tuple[str, str], list[Row]], prefix: str, sign: int
) -> Iterator[str]:
    """One line for each part that the reference was measured without, or with another in its place.

    Args:
        by_data_set: The rows, by data and split.
        prefix: Of these systems' names.
        sign: 1 for the reference minus them, -1 for the reverse.
    """
    rows = {
        (key, r["system"], (r["level"], r["metric"])): r
        for key, of_data_set in by_data_set.items()
        for r in of_data_set
    }
    changed = list(dict.fromkeys(s for _, s, _ in rows if s.startswith(prefix)))
    columns = [
        (key, c)
        for key in by_data_set
        for c in COLUMNS
        if (key, REFERENCE, c) in rows and any((key, s, c) in rows for s in changed)
    ]
    if not columns:
        return
    heads = [f"{data} {split}: {lv} {m}" for (data, split), (lv, m) in columns]
    yield _line(["part", *heads])
    yield _line(["---"] * (len(columns) + 1))
    for system in changed:
        yield _line(
            [
                system.removeprefix(prefix).replace("_", " "),
                *(
                    _difference(
                        rows[key, REFERENCE, c], rows.get((key, system, c)), sign
                    )
                    for key, c in columns
                ),
            ]
        )


def _difference(whole: Row, changed: Row | None, sign: int) -> str:
    if changed is None:
        return "–"
    text = f"{sign * (whole['mean'] - changed['mean']):+.4f}"
    significant = (
        changed["system"] in whole["better_than"]
        or whole["system"] in changed["better_than"]
    )
    return f"**{text}**" if significant else text


def _line(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
