"""What TensorBoard is shown: figures by hand, and files that show every step once."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.tfrs_mmse.runs import arguments
from tfrs_mmse import schema, train
from tfrs_mmse.checkpoints import saved
from tfrs_mmse.monitor import (
    global_norm,
    mean_scores,
    root_mean_square_norm,
    score_gaps,
    trim,
)
from tfrs_mmse.schema import Level
from tfrs_mmse.scores import Scores


def test_rows_of_a_gradient_that_come_twice_are_one_row() -> None:
    twice = tf.IndexedSlices(tf.constant([[1.0], [5.0], [2.0]]), tf.constant([7, 3, 7]))
    # Rows of 3 and 5, and a dense one of 4.
    assert float(global_norm([twice, tf.constant([4.0])])) == pytest.approx(50**0.5)


def test_the_norm_of_a_table_is_that_of_a_usual_row() -> None:
    table = tf.constant([[3.0, 4.0], [0.0, 0.0], [0.0, 5.0]])
    assert float(root_mean_square_norm(table)) == pytest.approx((50 / 3) ** 0.5)


def test_items_of_each_level_are_scored_with_the_query_that_they_were_shown_for() -> (
    None
):
    # Of two queries and two candidates.
    scores = mean_scores(
        Scores(
            candidate=tf.constant([[2.0, 4.0], [10.0, 1.0]]),
            slot=tf.constant([2.0, 4.0, 1.0]),
        ),
        level=tf.constant([3, 2, 2]),
    )
    assert float(scores[Level.ORDERED]) == 2
    assert float(scores[Level.CLICKED]) == (4 + 1) / 2
    assert math.isnan(scores[Level.UNCLICKED])
    assert float(scores[Level.RANDOM]) == pytest.approx((2 + 4 + 10 + 1) / 4)


def test_a_gap_is_to_the_next_lower_level_that_is_there() -> None:
    scores = {
        Level.ORDERED: 0.9,
        Level.CLICKED: 0.7,
        Level.UNCLICKED: 0.6,
        Level.RANDOM: 0.1,
    }
    assert score_gaps(scores) == pytest.approx(
        {
            "score_gap/ordered-clicked": 0.2,
            "score_gap/clicked-unclicked": 0.1,
            "score_gap/unclicked-random": 0.5,
        }
    )
    without = score_gaps({**scores, Level.UNCLICKED: math.nan})
    assert without.keys() == {"score_gap/ordered-clicked", "score_gap/clicked-random"}


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By tag: step and value of every point in TensorBoard's files."""
    points: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                number = float(tf.make_ndarray(value.tensor))
                points.setdefault(value.tag, []).append((event.step, number))
    return points


def write(folder: Path, steps: range) -> None:
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step in steps:
            tf.summary.scalar("x", step, step=step)
    writer.close()


def test_later_steps_and_half_a_record_are_trimmed(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6))
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    trim(tmp_path, last_step=3)
    assert shown(tmp_path) == {"x": [(1, 1.0), (2, 2.0), (3, 3.0)]}
    write(tmp_path, range(4, 6))
    assert [step for step, _ in shown(tmp_path)["x"]] == [1, 2, 3, 4, 5]
    # A file that shows nothing any more goes.
    trim(tmp_path, last_step=0)
    assert list(tmp_path.iterdir()) == []


def run(data: Path, model_dir: Path, every: int, *settings: str) -> None:
    """Two epochs of four steps."""
    argv = arguments(data, model_dir, "batch_size=32", *settings)
    assert train.main([*argv, "--summary-steps", str(every)]) == 0


@pytest.mark.slow
def test_looking_changes_nothing_and_shows_every_step_once(
    simulated_shop: Any, tmp_path: Path
) -> None:
    data = simulated_shop.examples
    run(data, tmp_path / "often", 1)
    run(data, tmp_path / "seldom", 1000)
    often, seldom = (
        tf.train.load_checkpoint(str(saved(tmp_path / name)[-1]))
        for name in ("often", "seldom")
    )
    for name in often.get_variable_to_shape_map():
        if "GRAPH" not in name:
            np.testing.assert_array_equal(
                often.get_tensor(name), seldom.get_tensor(name), err_msg=name
            )

    points = shown(tmp_path / "often" / schema.TENSORBOARD)
    last = dict(shown(tmp_path / "seldom" / schema.TENSORBOARD)["loss/total"])
    losses = points["loss/total"]
    assert [step for step, _ in losses] == list(range(1, 9))
    assert {step: dict(losses)[step] for step in last} == last and list(last) == [4, 8]
    assert points.keys() >= {
        "loss/retrieval",
        "loss/ranking",
        "epoch/retrieval_loss",
        "epoch/ranking_loss",
        "gradient_norm",
        "embedding_norm/word",
        "embedding_norm/category",
        "learning_rate",
        "temperature",
        "fusion/word",
        "score/clicked",
        "score_gap/clicked-unclicked",
        "sample_recall@10",
    }
    # What the look sees of a step is what the step trains on. The ranking loss weighs nothing in the first.
    assert points["loss/retrieval"][0][1] == pytest.approx(losses[0][1], rel=1e-5)
    assert all(norm > 0 for _, norm in points["gradient_norm"])
    # What is done again is shown once, as it was.
    newest = saved(tmp_path / "often")[-1]
    newest.with_name(f"{newest.name}.index").write_bytes(b"")
    run(data, tmp_path / "often", 1)
    assert shown(tmp_path / "often" / schema.TENSORBOARD) == points
