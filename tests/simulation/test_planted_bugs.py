"""A simulator that finds nothing proves nothing: each planted bug is caught within 2,000 seeds."""

import gc

import pytest

from tests.simulation.bugs import BUGS
from tests.simulation.world import simulate

SEEDS_MAX = 2_000
QUICK = ("inbox_in_its_own_transaction", "marked_published_before_it_is_sent", "hold_end_voids")
"""What a plain run tries, of three kinds: the books, the way out, a rule."""


def caught_after(name: str) -> tuple[int, str]:
    """Return how many seeds it takes to find a planted bug, and what was found; 0 when it is not."""
    gc.disable()
    try:
        with BUGS[name]():
            for seed in range(SEEDS_MAX):
                if wrong := simulate(seed).wrong:
                    return seed + 1, wrong
                if seed % 50 == 49:
                    gc.collect()
    finally:
        gc.enable()
    return 0, ""


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_caught(name: str) -> None:
    assert caught_after(name)[0]


@pytest.mark.seeds
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", [name for name in BUGS if name not in QUICK])
def test_every_planted_bug_is_caught(name: str) -> None:
    assert caught_after(name)[0]


def test_there_are_at_least_25_planted_bugs() -> None:
    assert len(BUGS) >= 25
