"""What is true of every verdict: money conserved, any cut, twice is once, the cap exact, a faster rail never later."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Event
from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentSettled
from services.decision import Moment
from services.risk_scoring.courses import course as course_of
from services.risk_scoring.courses import given_until
from services.risk_scoring.domain import _back, decide, judge
from services.risk_scoring.model import Account, Question, Verdict
from services.runtime.fold import Arrived, fold
from tests import builders
from tests.unit.given import FRIDAY, moment, profiles

CAP = 100
POLICY = profiles({"instant_cap_by_tier.unknown": CAP})
PROFILE = POLICY.of("default")
WINDOW = timedelta(hours=72)
NAMES = st.sampled_from(["funding_1", "funding_2"])
REFS = st.sampled_from([f"r{n}" for n in range(6)])


@dataclass(frozen=True)
class Step:
    """Something risk-scoring hears, and how long after the step before."""

    kind: str
    ref: str
    name: str
    amount: int
    rail: str
    gap_minutes: int


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["settle", "settle", "settle", "settle", "return", "link", "unlink", "statement", "limit"])
        | st.sampled_from(["review", "moved"]),
        REFS,
        NAMES,
        st.integers(0, 300),
        st.sampled_from(["wallet", "direct_debit", "direct_debit", "pigeon"]),
        st.integers(0, 3_000),
    ),
    max_size=25,
)


def inputs(steps: Sequence[Step]) -> list[tuple[Event, Moment]]:
    """Turn steps into events at rising instants; each repayment settles once."""
    now, settled = FRIDAY, 0
    found: list[tuple[Event, Moment]] = []
    for n, step in enumerate(steps):
        now += timedelta(minutes=step.gap_minutes)
        settled += step.kind == "settle"
        found.append((_event(step, now, f"s{settled}", n), moment(now)))
    return found


def _event(step: Step, now: datetime, ref: str, n: int) -> Event:
    at: dict[str, Any] = {"occurred_at": now, "event_id": f"e{n}"}
    match step.kind:
        case "settle":
            return _settled(step, now, ref, n)
        case "return":
            return builders.repayment_returned(**at, repayment_id=f"s{n // 2}", reallocated=())
        case "statement":
            return builders.statement_issued(**at)
        case "limit":
            return builders.credit_limit_changed(**at, credit_limit_minor=step.amount)
        case "review":
            return builders.hold_extended(**at, repayment_id=f"s{n // 2}")
        case "moved":
            return builders.repayments_reallocated(**at, reallocated=((f"s{n // 2}", -1, 0),))
        case kind:
            return builders.funding_account_linked(**at, funding_account_id=step.name, verified=kind == "link")


def _settled(step: Step, now: datetime, ref: str, n: int) -> RepaymentSettled:
    return builders.repayment_settled(
        event_id=f"e{n}",
        repayment_id=ref,
        funding_account_id=step.name,
        amount_minor=max(1, step.amount),
        restorable_minor=step.amount,
        rail=step.rail,
        finality="final" if step.rail == "wallet" else "provisional",
        repaid_at=now,
        settled_at=now,
    )


def course(given: Sequence[tuple[Event, Moment]], cuts: Sequence[int] = ()) -> tuple[Account, list[Event]]:
    """Fold the inputs batch by batch."""
    states: dict[str, Account] = {builders.ACCOUNT: Account(builders.ACCOUNT)}
    events: list[Event] = []
    arrivals = [(Arrived(event, 0, FRIDAY), builders.ACCOUNT, at) for event, at in given]
    bounds = sorted({0, len(arrivals), *(cut % (len(arrivals) + 1) for cut in cuts)})
    for start, end in pairwise(bounds):
        result = fold(decide, POLICY, states, arrivals[start:end])
        states, events = dict(result.states), [*events, *result.events]
    return states[builders.ACCOUNT], events


def verdicts(events: Sequence[Event]) -> list[RiskAssessed]:
    return [event for event in events if isinstance(event, RiskAssessed)]


@given(STEPS)
def test_tranches_add_up_are_numbered_and_dated_in_order(steps: list[Step]) -> None:
    for fact in verdicts(course(inputs(steps))[1]):
        assert sum(tranche.amount_minor for tranche in fact.tranches) == fact.restorable_minor
        assert [tranche.number for tranche in fact.tranches] == list(range(1, len(fact.tranches) + 1))
        assert [t.due_at for t in fact.tranches] == sorted(t.due_at for t in fact.tranches)
        assert len(fact.reasons) <= 4
        assert len(set(fact.reasons)) == len(fact.reasons)
        assert (fact.outcome == "clear") == all(tranche.due_at <= fact.occurred_at for tranche in fact.tranches)
        assert RiskAssessed.model_validate_json(fact.model_dump_json()) == fact


@given(STEPS)
def test_a_revision_only_moves_dates_earlier(steps: list[Step]) -> None:
    last: dict[str, RiskAssessed] = {}
    for fact in verdicts(course(inputs(steps))[1]):
        before = last.get(fact.repayment_id)
        assert fact.revision == (0 if before is None else before.revision + 1)
        if before is not None:
            parts = list(zip(before.tranches, fact.tranches, strict=True))
            assert all((one.number, one.amount_minor) == (two.number, two.amount_minor) for one, two in parts)
            assert all(two.due_at <= one.due_at for one, two in parts)
            assert any(two.due_at < one.due_at for one, two in parts)
        last[fact.repayment_id] = fact


@given(STEPS, st.lists(st.integers(0, 100), max_size=5))
def test_a_batch_may_be_cut_anywhere(steps: list[Step], cuts: list[int]) -> None:
    assert course(inputs(steps), cuts) == course(inputs(steps))


UNSAID = {"owed_minor": None}


@given(STEPS)
def test_what_is_told_twice_is_learnt_once(steps: list[Step]) -> None:
    """Sums alone rely on the inbox, which knows every event: of the cycle, months, outcomes and exposure.

    Unused credit is what a sum leaves, so here nobody says what is owed.
    """
    once = [
        (event.model_copy(update=UNSAID if type(event) is RepaymentSettled else {}), at) for event, at in inputs(steps)
    ]
    twice = [pair for pair in once for _ in range(1 if isinstance(pair[0], RepaymentSettled) else 2)]
    (before, told), (after, again) = course(once), course(twice)
    assert again == told
    sums = ("credit", "outcomes", "exposed_minor", "held_minor", "portfolio_minor")
    assert replace(after, **{name: getattr(before, name) for name in sums}) == before


@given(STEPS)
def test_r14_the_cap_is_exact_in_every_window(steps: list[Step]) -> None:
    used: list[tuple[datetime, int]] = []
    for fact in verdicts(course(inputs(steps))[1]):
        if fact.rail == "wallet" or fact.revision or not fact.restorable_minor:
            continue
        now = fact.occurred_at
        left = CAP - sum(minor for at, minor in used if at > now - WINDOW)
        given_now = sum(tranche.amount_minor for tranche in fact.tranches if tranche.due_at <= now)
        assert given_now in {0, min(fact.restorable_minor, left)}
        if fact.outcome != "refer" and "HOLD_PRIOR_RETURN" not in fact.reasons:
            assert given_now == min(fact.restorable_minor, left)
        used.append((now, given_now))


@given(STEPS)
def test_a_final_rail_is_clear_whatever_happened_before(steps: list[Step]) -> None:
    for fact in verdicts(course(inputs(steps))[1]):
        if fact.rail == "wallet":
            assert fact.outcome == "clear"


QUESTIONS = st.builds(
    Question,
    amount_minor=st.just(1_000),
    restorable_minor=st.integers(0, 1_000),
    credit_balance_minor=st.just(0),
    rail=st.sampled_from(["REVERSIBLE", "PENDING"]),
    verified=st.booleans(),
    strikes=st.integers(0, 4),
    instant_left_minor=st.integers(0, 1_000),
    settled_minor=st.integers(0, 3_000),
    credit_limit_minor=st.integers(0, 1_500),
    repaid_at=st.just(FRIDAY),
    now=st.integers(0, 10 * 1_440).map(lambda minutes: FRIDAY + timedelta(minutes=minutes)),
)


def back(verdict: Verdict, at: datetime, now: datetime) -> int:
    """Return what is back at an instant; a date already past means now."""
    return sum(tranche.amount_minor for tranche in verdict.tranches if max(now, tranche.due_at) <= at)


def never_later(one: Verdict, other: Verdict, now: datetime) -> bool:
    dates = [max(now, tranche.due_at) for tranche in other.tranches]
    return all(back(one, at, now) >= back(other, at, now) for at in dates)


@given(QUESTIONS)
def test_a_faster_rail_a_verified_account_and_more_room_in_the_cap_are_never_later(asked: Question) -> None:
    given_verdict = judge(PROFILE, asked)
    assert never_later(judge(PROFILE, replace(asked, rail="FINAL")), given_verdict, asked.now)
    assert never_later(judge(PROFILE, replace(asked, verified=True)), given_verdict, asked.now)
    roomier = replace(asked, instant_left_minor=asked.instant_left_minor + 100)
    assert never_later(judge(PROFILE, roomier), given_verdict, asked.now)
    assert sum(tranche.amount_minor for tranche in given_verdict.tranches) == asked.restorable_minor


PRICED = profiles({"hold.REVERSIBLE.method": "formula", "turnover_max_ratio": 1_000}).of("default")


@given(QUESTIONS, st.integers(0, 3), st.sampled_from([1, 1_000]))
def test_what_would_be_back_is_what_the_verdict_gives_back(asked: Question, disputes: int, times: int) -> None:
    """It is computed without reasons: small amounts and large ones, on any rail, with strikes and under guards."""
    large = {name: getattr(asked, name) * times for name in ("amount_minor", "restorable_minor", "instant_left_minor")}
    question = replace(asked, disputes=disputes // 3, rail_name="direct_debit", **large)
    short, whole = _back(PRICED, question), course_of(judge(PRICED, question), question.now)
    for at, _ in (*short, *whole):
        assert given_until(short, at) == given_until(whole, at)
