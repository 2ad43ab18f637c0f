"""Several workers take turns at the batches that one would take, and none is left out or taken twice."""

from pathlib import Path
from typing import Any

from tfrs_mmse import records, schema
from tfrs_mmse.records import ALONE, Turn


def requests_of(data: Path, turn: Turn, skip: int = 0) -> list[list[int]]:
    """Keys of the items of every batch, in two epochs of six batches."""
    manifest = schema.Manifest.read(data)
    num_requests = manifest.splits[schema.TRAIN]["requests"]
    batches = records.request_batches(
        data,
        manifest.features,
        schema.TRAIN,
        batch_size=-(-num_requests // 6),
        seed=3,
        epochs=range(2),
        skip=skip,
        turn=turn,
    )
    return [batch.items.key.numpy().tolist() for batch in batches]


def items_of(
    data: Path, turn: Turn, *, skip: int = 0, number: int
) -> list[list[bytes]]:
    manifest = schema.Manifest.read(data)
    batches = records.random_item_batches(
        data,
        manifest.features,
        batch_size=70,
        seed=3,
        num_items=manifest.num_items,
        skip=skip,
        turn=turn,
    )
    return [batch.item_id.numpy().tolist() for batch in batches.take(number)]


def test_workers_take_turns_at_requests_and_some_have_none_left(
    simulated_shop: Any,
) -> None:
    alone = requests_of(simulated_shop.examples, ALONE)
    assert len(alone) == 12 and all(alone)
    workers = [requests_of(simulated_shop.examples, Turn(4, w)) for w in range(4)]
    assert workers == [
        [alone[0], alone[4], alone[6], alone[10]],
        [alone[1], alone[5], alone[7], alone[11]],
        [alone[2], [], alone[8], []],
        [alone[3], [], alone[9], []],
    ]


def test_a_worker_that_goes_on_skips_batches_of_its_own(simulated_shop: Any) -> None:
    turn = Turn(4, 3)
    rest = requests_of(simulated_shop.examples, turn, skip=2)
    assert rest == requests_of(simulated_shop.examples, turn)[2:]


def test_workers_take_turns_at_random_items(simulated_shop: Any) -> None:
    # Of 300 items, so that the batches go beyond one pass.
    alone = items_of(simulated_shop.examples, ALONE, number=9)
    for worker in range(3):
        taken = items_of(simulated_shop.examples, Turn(3, worker), number=3)
        assert taken == alone[worker::3]
        rest = items_of(simulated_shop.examples, Turn(3, worker), skip=2, number=1)
        assert rest == taken[2:]
