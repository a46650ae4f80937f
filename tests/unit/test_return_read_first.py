"""A return read before what it follows, as after a broker lost records: whatever the order, all ends the same."""

from datetime import date, datetime, timedelta

import pytest

from schemas.event import Event
from schemas.ids import RepaymentId
from schemas.reasons import Reason
from schemas.restoration import RestorationReversed
from schemas.settlement import Reallocation, RepaymentReturned, RepaymentSettled
from services.decision import Decision
from services.limit_release.domain import decide as release
from services.limit_release.model import Account as Credit
from services.limit_release.model import State
from services.risk_scoring.domain import WAITS, decide
from services.risk_scoring.exposure import EARLY_MAX
from services.risk_scoring.model import Account
from services.values import replace
from tests import builders
from tests.unit.given import FRIDAY, check_fact, moment, only, profiles

NOW = FRIDAY + timedelta(seconds=5)
OPENED = builders.account_opened(credit_limit_minor=600_000)
STATEMENT = builders.statement_issued(occurred_at=FRIDAY - timedelta(days=1), due_on=date(2026, 12, 10))


def settled(ref: str = builders.REPAYMENT, **changes: object) -> RepaymentSettled:
    values = {"repayment_id": ref, "repaid_at": FRIDAY, "amount_minor": 40_000, "restorable_minor": 40_000}
    return builders.repayment_settled(**{**values, "final_on": date(2027, 1, 19), **changes})


def returned(**changes: object) -> RepaymentReturned:
    values = {"occurred_at": NOW, "amount_minor": 40_000, "restorable_minor": 40_000, "reallocated": ()}
    return builders.repayment_returned(**{**values, "finality": "provisional", **changes})


def after(*events: Event, now: datetime = NOW) -> Decision[Account]:
    """Decide in the order given; what is parked comes again when the rest is read, as the runtime has it come."""
    decision, waiting = Decision(Account(builders.ACCOUNT)), []
    for event in events:
        decision = decide(profiles(), decision.state, event, moment(now))
        waiting += [event] if decision.outcome == "parked" else []
    for event in waiting:
        decision = decide(profiles(), decision.state, event, moment(now))
    return decision


@pytest.mark.parametrize(
    ("changes", "strikes"),
    [({}, 1), ({"fault": "issuer"}, 0), ({"return_class": Reason.RETURNED_UNAUTHORISED, "code": "R10"}, 1)],
)
def test_a_return_read_before_its_repayment_ends_as_one_read_after_it(changes: dict[str, object], strikes: int) -> None:
    other = settled("other")
    news = returned(**changes, reallocated=(Reallocation(RepaymentId("other"), 7_000, 0),))
    usual = after(OPENED, STATEMENT, other, settled(), news)
    early = after(OPENED, STATEMENT, other, news, settled())
    assert early.state == usual.state
    assert early.outcome == "applied"
    found = early.state.funding.get(builders.FUNDING_ACCOUNT)
    assert len(found.strikes if found else ()) == strikes
    assert early.state.exposed_minor == 40_000 + 7_000, "of what was returned nothing is exposed, once"
    assert early.state.outcomes[builders.REPAYMENT].returned_at == NOW


def test_a_return_that_waits_changes_nothing_yet_whatever_else_it_says() -> None:
    dispute = builders.repayment_disputed(occurred_at=FRIDAY)
    news = returned(repayment_id=builders.REPAYMENT, reallocated=(Reallocation(RepaymentId("other"), 7_000, 0),))
    before = after(OPENED, settled("other"), dispute).state
    decision = decide(profiles(), before, news, moment(NOW))
    assert (decision.outcome, decision.reason) == ("parked", "waits_for_its_repayment")
    assert decision.state == before
    assert (decision.events, decision.timers) == ((), ())


@pytest.mark.parametrize("finality", ["final", None])
def test_of_a_repayment_that_has_no_verdict_or_from_an_older_writer_nothing_waits(finality: str | None) -> None:
    decision = after(OPENED, returned(finality=finality))
    assert (decision.outcome, decision.state.credit.returned_at) == ("applied", NOW)


@pytest.mark.parametrize(("early", "outcome"), [(timedelta(milliseconds=1), "parked"), (timedelta(), "applied")])
def test_a_return_waits_for_so_long_and_counts_then_without_its_repayment(early: timedelta, outcome: str) -> None:
    decision = after(OPENED, returned(), now=NOW + WAITS - early)
    assert decision.outcome == outcome
    assert not decision.state.funding


APPROVED = builders.hold_release_approved(repayment_id=builders.REPAYMENT, tranche=3, occurred_at=NOW)
EXTENDED = builders.hold_extended(repayment_id=builders.REPAYMENT, tranche=3, occurred_at=NOW)
VERIFIED = builders.funding_account_linked(verified=True, occurred_at=NOW + timedelta(seconds=1))


@pytest.mark.parametrize(("word", "today"), [(APPROVED, 300_000), (EXTENDED, 100_000)])
def test_a_reviewers_word_read_before_its_repayment_ends_as_one_read_after_it(word: Event, today: int) -> None:
    held = settled(amount_minor=500_000, restorable_minor=500_000)
    usual, early = after(OPENED, STATEMENT, held, word), after(OPENED, STATEMENT, word, held)
    assert early.state == usual.state
    assert (early.outcome, early.state.exposed_minor) == ("applied", today)
    left_alone = decide(profiles(), early.state, VERIFIED, moment(NOW + timedelta(seconds=2)))
    assert left_alone.events == (), "a person decided: verifying the account moves no date any more"


@pytest.mark.parametrize("word", [APPROVED, EXTENDED])
@pytest.mark.parametrize(
    ("early", "said"),
    [(timedelta(milliseconds=1), ("parked", "waits_for_its_repayment")), (timedelta(), ("stale", "repayment_unknown"))],
)
def test_a_reviewers_word_waits_for_so_long_and_says_that_its_repayment_never_came(
    word: Event, early: timedelta, said: tuple[str, str]
) -> None:
    before = after(OPENED, settled("other", amount_minor=500_000, restorable_minor=500_000)).state
    decision = decide(profiles(), before, word, moment(NOW + WAITS - early))
    assert (decision.outcome, decision.reason) == said
    assert (decision.state, decision.events) == (before, ())


MOVED = (Reallocation(RepaymentId(builders.REPAYMENT), -7_000, 7_000),)
REPLAY = builders.repayments_reallocated(reallocated=MOVED, occurred_at=NOW)
RETURN = returned(repayment_id="other", reallocated=MOVED)


@pytest.mark.parametrize("news", [REPLAY, RETURN])
@pytest.mark.parametrize(("early", "outcome"), [(timedelta(milliseconds=1), "parked"), (timedelta(), "applied")])
def test_what_a_replay_moved_is_read_before_it_or_it_waits_for_so_long(
    news: Event, early: timedelta, outcome: str
) -> None:
    known = after(OPENED, STATEMENT, settled("other")).state
    before = replace(known, unread=frozenset((builders.REPAYMENT, "of another event")))
    waits = decide(profiles(), before, news, moment(NOW + WAITS - early))
    assert (waits.outcome, waits.events) == (outcome, ())
    if outcome == "parked":
        assert waits.state == before
    read = decide(profiles(), before, settled(), moment(NOW)).state
    done = decide(profiles(), read, news, moment(NOW))
    usual = after(OPENED, STATEMENT, settled("other"), settled(), news)
    left = frozenset(("of another event",))
    assert done == usual._replace(state=replace(usual.state, unread=left)), "what this batch read, counts"
    assert done.state.outcomes[builders.REPAYMENT].restorable_minor == 40_000 - 7_000


@pytest.mark.parametrize(
    ("changes", "exposed", "held"),
    [({}, 33_000, 0), ({"amount_minor": 500_000, "restorable_minor": 500_000}, 100_000, 393_000)],
)
def test_what_a_settlement_moved_of_a_repayment_read_after_it_counts_when_that_is_read(
    changes: dict[str, int], exposed: int, held: int
) -> None:
    first = settled(builders.REPAYMENT, **changes)
    second = settled("late", amount_minor=1_000, restorable_minor=0, rail="wallet", finality="final", reallocated=MOVED)
    usual = after(OPENED, STATEMENT, first, second)
    before = replace(after(OPENED, STATEMENT).state, unread=frozenset((builders.REPAYMENT,)))
    decision = decide(profiles(), before, second, moment(NOW))
    assert (decision.outcome, len(decision.events)) == ("applied", 1), "what settles waits for nothing"
    assert decision.state.early == {builders.REPAYMENT: -7_000}
    early = decide(profiles(), replace(decision.state, unread=frozenset()), first, moment(NOW))
    assert early.state == replace(usual.state, outcomes=early.state.outcomes)
    (one,) = early.state.outcomes.values()
    assert (one, early.state.exposed_minor, early.state.held_minor) == (
        usual.state.outcomes[builders.REPAYMENT], exposed, held,
    )  # fmt: skip
    left_alone = decide(profiles(), early.state, VERIFIED, moment(NOW + timedelta(seconds=2)))
    assert left_alone.events == (), "what a replay moved has its dates, whatever was read first"


def test_of_what_a_batch_reads_before_a_settlement_nothing_is_kept_for_later() -> None:
    final = settled(rail="wallet", finality="final")
    before = replace(after(OPENED, STATEMENT).state, unread=frozenset((builders.REPAYMENT,)))
    read = decide(profiles(), before, final, moment(NOW)).state
    after_it = decide(profiles(), read, settled("late", reallocated=MOVED), moment(NOW)).state
    assert (after_it.early, after_it.unread) == ({}, frozenset())


def test_of_a_hundred_repayments_it_is_kept_what_was_moved_before_they_were_read() -> None:
    names = [f"r{n}" for n in range(EARLY_MAX + 2)]
    known = replace(after(OPENED, STATEMENT).state, unread=frozenset(names))
    for n, name in enumerate(names):
        moved = [Reallocation(RepaymentId(each), -1, 1) for each in (name, names[2])] if n else ()
        known = decide(profiles(), known, settled(f"late{n}", reallocated=tuple(moved)), moment(NOW)).state
    assert list(known.early) == names[2:]
    assert (known.early[names[2]], known.early[names[-1]]) == (-1 - len(names[1:]), -1)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_limit_release_reads_a_return_before_a_replay_and_tells_what_its_readers_take(first: int) -> None:
    """The replays gave 480 and took 440 again; below 0 the notifier refused it as malformed, and nobody was told."""
    gave, took = [
        builders.repayments_reallocated(reallocated=(Reallocation(builders.REPAYMENT, delta, -delta),))
        for delta in (480, -440)
    ]
    paid = {"amount_minor": 480, "restorable_minor": 0, "credit_balance_minor": 480, "rail": "wallet"}
    verdict = builders.risk_assessed(**paid, outcome="clear", tranches=(), reasons=(Reason.PAID_CREDIT_BALANCE,))
    back = builders.repayment_returned(
        amount_minor=480, restorable_minor=40, credit_balance_minor=440, reallocated=(), finality="final"
    )
    news = [took, back]
    news.insert(first, gave)
    state = State(Credit(builders.ACCOUNT))
    facts: list[Event] = []
    for event in (builders.account_opened(), builders.purchase_posted(amount_minor=900), verdict, *news):
        decision = release(profiles(), state, event, moment(NOW))
        state, facts = decision.state, [*facts, *decision.events]
    fact = only(facts, RestorationReversed)
    check_fact(fact)
    assert (fact.from_available_minor, fact.record.taken_back_minor) == ((40, 40) if first < 2 else (0, 0))
    assert (state.account.available_minor, state.account.used_debt_minor) == (499_100, 900)
