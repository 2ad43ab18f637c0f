"""Two real processes over loopback compute what one process computes from both their batches."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.tfrs_mmse.runs import free_addresses

PROGRAM = Path(__file__).with_name("replica_program.py")
SMALL = "grains=word,category embedding_dim=4 attribute_dim=2 batch_size=25 ranking_warmup=0.0"
MIXED = (
    # With gradients that do not overflow at once, as those of small batches do at small temperatures.
    f"{SMALL} synthetic_queries=8 uniform_negatives=80 precision=mixed_float16 "
    "temperature=1 ranking_temperature=1"
)
SETTINGS = (
    # Random items stand on both workers, and are asked for by synthetic queries.
    f"{SMALL} synthetic_queries=8 uniform_negatives=80",
    # The last of the three steps has a worker without a single request or item.
    f"{SMALL} synthetic_queries=0 uniform_negatives=0 retrieval_loss=hinge margin=0.6 "
    "ranking_loss=listwise unclicked_position_exponent=0.5",
    MIXED,
)

Results = dict[str, np.ndarray]


def run_together(argv: list[list[str]], environments: list[dict[str, str]]) -> None:
    """Starts programs at once; all must end well."""
    processes = [
        subprocess.Popen(
            [sys.executable, *a], env=os.environ | e, stderr=subprocess.PIPE, text=True
        )
        for a, e in zip(argv, environments, strict=True)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(argv), errors


@pytest.fixture(scope="module")
def results(
    simulated_shop: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Results, ...]:
    """Of worker 0, worker 1, and one process alone."""
    root = tmp_path_factory.mktemp("replicas")
    addresses = free_addresses(2)
    environments = [
        {
            "TF_CONFIG": json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": i},
                }
            ),
            "PYTHONPATH": ".",
        }
        for i in range(2)
    ]
    outputs = [root / f"{i}.npz" for i in range(3)]
    argv = [
        [str(PROGRAM), str(simulated_shop.examples), str(output), *SETTINGS]
        for output in outputs
    ]
    run_together(argv[:2], environments)
    run_together(argv[2:], [{"PYTHONPATH": "."}])
    return tuple(
        {name.replace("|", "/"): value for name, value in np.load(output).items()}
        for output in outputs
    )


def test_rows_are_gathered_with_the_sum_of_all_gradients(
    results: tuple[Results, ...],
) -> None:
    for worker in results[:2]:
        assert_array_equal(worker["gathering/rows"], [[1], [2], [3]])
        assert worker["gathering/total"] == 3
    assert [int(worker["gathering/before"]) for worker in results[:2]] == [0, 2]
    # Row r has weight r on worker 0 and 10 r on worker 1.
    assert_array_equal(results[0]["gathering/gradient"], [[11], [22]])
    assert_array_equal(results[1]["gathering/gradient"], [[33]])


@pytest.mark.parametrize("settings", SETTINGS)
def test_two_workers_compute_what_one_does_with_both_their_batches(
    results: tuple[Results, ...], settings: str
) -> None:
    first, second, alone = (
        {name: value for name, value in r.items() if name.startswith(f"{settings}/")}
        for r in results
    )
    assert first.keys() == second.keys() == alone.keys()
    for name, expected in alone.items():
        assert_array_equal(first[name], second[name], err_msg=name)
        # Sums in another order, and roots of them: single or half precision, a few steps on.
        rtol, atol = (2e-2, 2e-3) if settings == MIXED else (1e-4, 1e-6)
        assert_allclose(first[name], expected, rtol=rtol, atol=atol, err_msg=name)
    assert any("ranking_loss after" in name and v > 0 for name, v in alone.items())
    sums = [value for name, value in alone.items() if "sum of" in name]
    assert any((value != np.float32(0.1)).any() for value in sums)  # as they begin
