"""Which of the measured indexes is chosen, on times and recalls made up."""

from serving.export.curve import Measured, choose, pareto
from serving.index.scann_build import ScannSettings


def _scann(ms: float, recall: float) -> Measured:
    settings = ScannSettings(num_leaves=0, leaves_to_search=0, num_reorder=int(ms))
    return Measured(settings=settings, recall=recall, alone_ms=ms, batch_ms=ms)


def _exact(ms: float) -> Measured:
    return Measured(settings=None, recall=1.0, alone_ms=ms, batch_ms=ms)


def test_the_fastest_that_reaches_the_target_is_chosen() -> None:
    fast, right, slow = _scann(1, 0.94), _scann(2, 0.95), _scann(3, 0.99)
    choice = choose([_exact(9), fast, slow, right], 0.95)
    assert choice.measured is right
    assert choice.reason == (
        "exact search takes 9 ms a query, ScaNN 2 ms at recall 0.950"
    )


def test_exact_search_is_chosen_unless_it_is_slower_by_more_than_a_tenth() -> None:
    assert choose([_exact(11), _scann(10, 0.99)], 0.95).measured.kind == "exact"
    assert choose([_exact(11.5), _scann(10, 0.99)], 0.95).measured.kind == "scann"


def test_a_target_that_scann_misses_is_reached_by_exact_search() -> None:
    choice = choose([_exact(50), _scann(1, 0.5), _scann(2, 0.9)], 0.95)
    assert choice.measured.kind == "exact"
    assert choice.reason == (
        "ScaNN reaches recall 0.900, less than the target of 0.95: exact search, 50 ms a query"
    )


def test_fast_means_half_alone_and_half_in_batches() -> None:
    # (1 + 5) / 2 = 3 beats (6 + 1) / 2 = 3.5.
    settings = _scann(1, 1).settings
    alone = Measured(settings=settings, recall=0.99, alone_ms=1, batch_ms=5)
    batch = Measured(settings=settings, recall=0.99, alone_ms=6, batch_ms=1)
    assert (alone.ms, batch.ms) == (3, 3.5)
    assert choose([_exact(99), batch, alone], 0.95).measured is alone


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    a, b, c = _scann(1, 0.5), _scann(2, 0.9), _scann(3, 0.95)
    slower, worse = _scann(4, 0.95), _scann(2.5, 0.8)
    assert pareto([slower, c, worse, a, b]) == [a, b, c]
