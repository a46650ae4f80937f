"""Drift: what each measure sees, and what it cannot see."""

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.prior import Prior
from services.profiles import returns
from services.risk_scoring.model import Question, features
from services.risk_training.drift import ACT, LIMIT, WARN, Cusum, Seen, Watch, binned, edges_of, psi, shift
from services.risk_training.market import Truth, repayments

BEGIN = date(2027, 1, 4)
DAYS, A_DAY, BEGUN = 20, 600, 10
WAVE = 4.0
"""How many times as likely repayments of the wave come back."""
COUNTS = st.dictionaries(st.integers(0, 9), st.integers(0, 1_000), min_size=1).filter(lambda found: any(found.values()))


def market(seed: int, *, wave_from: int | None) -> Iterator[Seen]:
    """Play days on which repayments come back as the table says; in the wave, those of new accounts more often."""
    prior, chance = returns(), Random(seed)  # noqa: S311 - a simulation, not a secret
    for number, one in enumerate(repayments(seed, DAYS * A_DAY, Truth(final=0.0))):
        day = number // A_DAY
        expected = likely(prior, one.seen)
        in_wave = wave_from is not None and day >= wave_from and not one.seen.verified
        truth = min(1.0, expected * (WAVE if in_wave else 1.0))
        segments = ("all", f"rail={one.seen.rail_name}", f"new_funding_account={not one.seen.verified}")
        yield Seen(BEGIN + timedelta(days=day), segments, expected, chance.random() < truth)


def likely(prior: Prior, seen: Question) -> float:
    bank, customer = prior.chances("direct_debit", features(seen))
    return bank.likely + (1 - bank.likely) * customer.likely


@cache
def played(seed: int, wave_from: int | None) -> tuple[Seen, ...]:
    return tuple(market(seed, wave_from=wave_from))


def test_the_planted_wave_is_seen_by_the_sum_of_its_segment_and_by_no_index() -> None:
    """The wave looks as its customers always did: no distribution of the score moves, more of them come back."""
    seen = played(1, BEGUN)
    alarms = Watch().days(seen).alarms()
    assert 0 <= (alarms["new_funding_account=True"] - BEGIN).days - BEGUN <= 6
    assert "new_funding_account=False" not in alarms
    before = [one.expected for one in seen if (one.on - BEGIN).days < BEGUN]
    during = [one.expected for one in seen if (one.on - BEGIN).days >= BEGUN]
    edges = edges_of(before)
    index = psi(binned(before, edges), binned(during, edges))
    assert shift(index) == "none"
    assert index < WARN / 5


@pytest.mark.parametrize("seed", range(1, 4))
def test_days_as_expected_alarm_nobody(seed: int) -> None:
    assert Watch().days(played(seed, None)).alarms() == {}


def test_customers_who_moved_are_seen_by_the_index_and_by_no_sum() -> None:
    """Many more new accounts that come back as expected: the index asks for action, nothing came back too often."""
    seen = played(2, None)
    moved = [one for one in seen for _ in range(9 if "new_funding_account=True" in one.segments else 1)]
    index = psi(*(Counter[object](one.segments[2] for one in group) for group in (seen, moved)))
    assert shift(index) == "act"
    assert Watch().days(seen).alarms() == {}


def test_a_day_with_few_expected_is_counted_with_those_after_it() -> None:
    cusum = Cusum()
    for n in range(3):
        cusum.day(BEGIN + timedelta(days=n), 3, 1, 1)
        assert cusum.sum == 0
    cusum.day(BEGIN + timedelta(days=3), 3, 1, 1)
    assert cusum.sum == pytest.approx((12 - 4) / 2 - 0.5)


@given(COUNTS, COUNTS)
def test_the_index_is_never_negative_and_nothing_for_the_same(one: dict[object, int], two: dict[object, int]) -> None:
    assert psi(one, two) >= -1e-12
    assert psi(one, two) == pytest.approx(psi(two, one))
    assert psi(one, one) == 0


def test_the_index_is_the_worked_one() -> None:
    assert psi({"a": 50, "b": 50}, {"a": 60, "b": 40}) == pytest.approx(0.0405, abs=1e-4)
    assert [shift(index) for index in (0, WARN, ACT)] == ["none", "warn", "act"]
    with pytest.raises(ValueError, match="two groups"):
        psi({}, {"a": 1})


def test_the_sum_forgets_good_days_and_keeps_the_day_it_alarmed() -> None:
    cusum = Cusum()
    cusum.day(BEGIN, 0, 50, 25)
    assert cusum.sum == 0
    for n in range(4):
        cusum.day(BEGIN + timedelta(days=n), 62, 50, 25)
    assert cusum.sum == pytest.approx(4 * (12 / 5 - 0.5))
    assert cusum.sum > LIMIT
    cusum.day(BEGIN + timedelta(days=9), 0, 50, 25)
    cusum.day(BEGIN + timedelta(days=10), 0, 0, 0)
    assert (cusum.sum, cusum.alarmed_on) == (0.0, BEGIN + timedelta(days=3))
