"""Which checks a candidate passes, with worked numbers: each can fail alone; and what a verdict cost."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from services.prior import Prices
from services.risk_scoring.trials import Said, Stage
from services.risk_training.promotion import Check, Load, Matured, cost_of, to_canary, to_force
from tests.unit.given import FRIDAY

DAY = timedelta(days=1)
PRICES = Prices()
LIGHT = Load(20e-6, 50_000, None)
SURVIVOR = (1.0, 0.7, 0.05, 0.015, 0.005, 0.0)
UNTIL = FRIDAY + 2 * DAY
GOOD, HELD = Said("clear", 50_000, None, 0.02), Said("observe", 0, UNTIL, 0.3)


def row(number: int, champion: Said, candidate: Said, returned: object = None) -> Matured:
    """Return a repayment of 500.00; a third of what is given back of one that comes back is lost."""
    at = FRIDAY + number % 30 * DAY
    dated = [said._replace(until=None if said.until is None else at + 2 * DAY) for said in (champion, candidate)]
    came = at + DAY if returned else None
    return Matured(at, (f"tier {'AB'[number % 2]}",), 50_000, 0, dated[0], dated[1], came, 1 / 3)


def sample() -> list[Matured]:
    """Return 2,000 repayments of which 40 of the risky 80 and 38 others come back: both hold as many, 80.

    The candidate holds the risky ones, the model in force others at random.
    """
    found = []
    for n in range(2_000):
        risky, other = n % 25 == 0, n % 25 == 1
        came = (risky and n % 50 == 0) or n % 52 == 7
        likely = 0.5 if risky else 0.02
        champion = HELD._replace(likely=0.04) if other else GOOD._replace(likely=0.04)
        found.append(row(n, champion, (HELD if risky else GOOD)._replace(likely=likely), came))
    return found


def failing(checks: Sequence[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


ROWS = sample()


def test_a_better_candidate_passes_every_check() -> None:
    checks = to_canary(ROWS, PRICES, LIGHT)
    assert failing(checks) == []
    names = ["enough", "ranks", "calibration", "cost", "hold rate", "groups", "shift", "segments", "budget", "latency"]
    assert [check.name for check in checks] == names
    assert next(check.seen for check in checks if check.name == "hold rate") == "80 held, 80 by the model in force"


@pytest.mark.parametrize("rows", [ROWS[:999], [r for r in ROWS if r.returned_at is None]])
def test_without_enough_that_matured_nothing_else_is_asked(rows: list[Matured]) -> None:
    assert [check.name for check in to_canary(rows, PRICES, LIGHT)] == ["enough"]
    assert failing(to_canary(rows, PRICES, LIGHT)) == ["enough"]


def said(each: Matured, **values: object) -> Matured:
    return each._replace(candidate=each.candidate._replace(**values))  # type: ignore[arg-type]


def spoilt(name: str, n: int, each: Matured) -> Matured:
    """Return a row of the sample as a worse candidate, or another world, would have it."""
    match name:
        case "ranks":
            return said(each, likely=0.001 if each.returned_at else 0.04)
        case "calibration":
            return said(each, likely=each.candidate.likely + 0.05)
        case "cost":
            return each._replace(candidate=each.champion._replace(likely=each.candidate.likely))
        case "hold rate" if n % 100 == 3:
            return each._replace(candidate=HELD._replace(until=each.assessed_at + DAY))
        case "groups" if each.candidate.verdict != "clear" or n % 20 == 9:
            return each._replace(groups=("rail x",))
        case "shift":
            return said(each, likely=each.candidate.likely + (0.01 if n % 30 < 15 else 0.0))
        case "segments" if n % 30 > 20:
            return each._replace(groups=("tier new",), returned_at=each.assessed_at + DAY if n % 9 == 0 else None)
        case _:
            return each


@pytest.mark.parametrize("name", ["ranks", "calibration", "cost", "hold rate", "groups", "shift", "segments"])
def test_each_check_fails_when_it_should(name: str) -> None:
    assert name in failing(to_canary([spoilt(name, n, each) for n, each in enumerate(ROWS)], PRICES, LIGHT))


@pytest.mark.parametrize(
    ("load", "name"),
    [(LIGHT._replace(budget_minor=49_999), "budget"), (LIGHT._replace(seconds=101e-6), "latency")],
)
def test_a_budget_or_a_worker_that_does_not_bear_it_is_told(load: Load, name: str) -> None:
    assert failing(to_canary(ROWS, PRICES, load)) == [name]
    assert failing(to_canary(ROWS, PRICES, LIGHT._replace(budget_minor=50_000, seconds=100e-6))) == []


@pytest.mark.parametrize(
    ("days", "stages", "fails"),
    [
        (7, [], []),
        (6.9, [], ["canary"]),
        (7, [Stage(6, False, 0, 0, 1.0, 4)], []),
        (7, [Stage(6, False, 0, 0, 1.0, 5)], ["returns"]),
        (7, [Stage(0, True, 10, 20, 0.0, 0)], ["returns"]),
    ],
)
def test_a_canary_of_seven_days_that_broke_nothing_may_decide(
    days: float, stages: list[Stage], fails: list[str]
) -> None:
    now = FRIDAY + days * DAY
    assert failing(to_force(ROWS, PRICES, LIGHT, (FRIDAY, stages), SURVIVOR, now)) == fails
    assert "canary" in failing(to_force(ROWS, PRICES, LIGHT, None, SURVIVOR, now))


def test_what_a_verdict_cost() -> None:
    """500.00, a third of it lost with a return; 25 a day, 600 + 1.5 % of the need for a declined purchase."""
    stayed, came = row(0, GOOD, HELD), row(0, GOOD, HELD, returned=True)
    assert cost_of(stayed.champion, stayed, PRICES) == 0
    assert cost_of(came.champion, came, PRICES) == pytest.approx(50_000 / 3)
    waiting = 2 * 25 + 600 + 0.015 * 40_000 * 2 / 3
    assert cost_of(stayed.candidate, stayed, PRICES) == pytest.approx(waiting)
    assert cost_of(came.candidate, came, PRICES) == pytest.approx(waiting)
    late = came._replace(returned_at=FRIDAY + 3 * DAY)
    assert cost_of(late.candidate, late, PRICES) == pytest.approx(waiting + 50_000 / 3)
