"""limit-release: what one changed number or word in its rules would change, where no story of another test shows it."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from schemas.event import Segment
from schemas.ids import EventId, RepaymentId, event_id
from schemas.reasons import Reason
from schemas.restoration import (
    CreditRestored,
    DecisionRecord,
    HeldPart,
    MovedPart,
    RestorationDelayed,
    RestorationReversed,
)
from schemas.risk import Tranche as Part
from schemas.settlement import Reallocation
from services.limit_release.domain import decide
from services.limit_release.facts import Scene, Taken
from services.limit_release.model import Account, Journal, Repayment, State, Tranche
from services.limit_release.movements import absorbed, charged, reallocated
from services.limit_release.returns import returned
from tests import builders
from tests.unit.given import FRIDAY, moment, only, profile, profiles, said

LATER, NOW = FRIDAY + timedelta(days=4), FRIDAY + timedelta(seconds=5)
HOUR = timedelta(hours=1)
BEFORE = Account(builders.ACCOUNT, credit_limit_minor=900, available_minor=250)
VERDICT = builders.risk_assessed(inputs_digest="digest", past_due_minor=120)
SCENE = Scene(profile({"credit_balance_spendable": True}), moment(NOW), EventId("cause"), BEFORE, VERDICT)
AFTER = replace(BEFORE, available_minor=-40, credit_balance_minor=0, limit_lowered_at=FRIDAY)
TRAIL: tuple[Segment, ...] = (
    ("report", "external.upstream_report", FRIDAY + timedelta(seconds=3)),
    ("release", "system_delay.kafka_queue", NOW),
)
HELD = Tranche("r1", 2, 70, "held", LATER, Reason.HOLD_RAIL_REVERSIBLE, LATER + HOUR, promises=2)
PARKED = replace(HELD, number=3, amount_minor=30, state="parked")
BACK = replace(HELD, number=1, amount_minor=50, state="restored", reason=Reason.RELEASE_WITHIN_CAP, restored_at=NOW)
PINNED: dict[str, Any] = {"policy_version": "p@1", "model_version": "m-1", "calendar_version": "c@1"}
REPAYMENT = Repayment(
    "r1", assessed=True, amount_minor=160, restorable_minor=150, currency="CNY", rail="direct_debit", repaid_at=FRIDAY,
    version=3, trail=TRAIL, reasons=(Reason.HOLD_RAIL_REVERSIBLE,), faster=("final_rail",), **PINNED,
    tranches={t.number: t for t in (PARKED, HELD, BACK)},
)  # fmt: skip
STATE = State(AFTER, {"r1": REPAYMENT})
FIVE = (
    Reason.HOLD_RAIL_REVERSIBLE,
    Reason.HOLD_OVER_INSTANT_CAP,
    Reason.OVER_LIMIT,
    Reason.RETURNED,
    Reason.DELAY_SYSTEM,
)


def named(name: str, *number: int) -> dict[str, Any]:
    """Return what every fact of version 4 of the record says."""
    parts = ("r1", *(str(n) for n in number), "4")
    about = {"event_id": event_id(name, *parts), "account_id": builders.ACCOUNT, "occurred_at": NOW}
    return {**about, "caused_by": "cause", "repayment_id": "r1"}


def recorded() -> tuple[State, Repayment, DecisionRecord]:
    """Record a decision that restored 50."""
    return SCENE.recorded(STATE, REPAYMENT, "restored", FIVE, restored=50, promised_by=LATER)


def test_the_record_of_a_decision_says_what_the_books_say() -> None:
    state, kept, record = recorded()
    assert said(record) == {
        "version": 4, "decided_at": NOW, "outcome": "restored", "amount_minor": 160, "currency": "CNY",
        "rail": "direct_debit", "repaid_at": FRIDAY, "credited_on": date(2026, 11, 20), "restored_minor": 50,
        "promised_by": LATER, "late_minor": 0, "held": (HeldPart(2, 70, LATER),), "moved": None, "parked_minor": 30,
        "taken_back_minor": 0, "available_credit_minor": 0, "available_raw_minor": -40, "available_before_minor": 250,
        "other_minor": -340, "zero_reason": Reason.LIMIT_LOWERED, "credit_limit_minor": 900,
        "limit_lowered_at": FRIDAY, "reasons": FIVE[:4], "faster": ("final_rail",), **PINNED,
        "inputs_digest": "digest", "past_due_minor": 120, "together": None,
    }  # fmt: skip
    assert (kept, state.repayments["r1"]) == (replace(REPAYMENT, version=4, records=(record,)), kept)


def test_the_record_says_what_was_taken_back_is_late_or_moved_and_nothing_faster_where_nothing_is_held() -> None:
    moved, repayment = MovedPart(2, FRIDAY), REPAYMENT.put(replace(HELD, state="restored"))
    account = replace(AFTER, available_minor=200, credit_balance_minor=60, limit_lowered_at=None)
    _, _, record = SCENE.recorded(State(account), repayment, "reversed", FIVE[:1], taken_back=30, late=7, moved=moved)
    assert (record.taken_back_minor, record.late_minor, record.moved, record.restored_minor) == (30, 7, moved, 0)
    assert (record.other_minor, record.available_credit_minor, record.available_raw_minor) == (-20, 260, 200)
    assert (record.zero_reason, record.credit_limit_minor, record.limit_lowered_at) == (None, None, None)
    assert (record.held, record.faster, record.promised_by) == ((), (), None)
    _, _, unpaid = SCENE.recorded(STATE, replace(REPAYMENT, repaid_at=None), "held", FIVE[:1])
    assert unpaid.repaid_at == NOW


def test_what_is_promised_restored_or_held_is_told_whole() -> None:
    state, kept, record = recorded()
    amount = {"amount_minor": 50, "currency": "CNY", "tranche": 1}
    assert said(SCENE.promised(state, kept, BACK, "clear", LATER)) == {
        **named("PromiseMade", 1), **amount, "promised_by": LATER, "basis": "clear", "revision": 1,
        "policy_version": "p@1", "calendar_version": "c@1",
    }  # fmt: skip
    shown = {"available_credit_minor": 0, "available_raw_minor": -40, "zero_reason": Reason.LIMIT_LOWERED}
    restored = SCENE.restored(state, kept, BACK, record)
    assert said(restored) == {
        **named("CreditRestored", 1), **amount, **shown, "repaid_at": FRIDAY, "trail": TRAIL,
        "cause": "external.upstream_report", "reason": Reason.RELEASE_WITHIN_CAP, "restored_at": NOW,
        "promised_by": LATER + HOUR, "record": record,
    }  # fmt: skip
    ahead = replace(kept, trail=(("report", "external.upstream_report", LATER),))
    assert SCENE.restored(state, ahead, BACK, record).restored_at == LATER
    assert said(SCENE.held(state, kept, HELD, record)) == {
        **named("HoldPlaced", 2), "tranche": 2, "amount_minor": 70, "currency": "CNY", "until": LATER,
        "reasons": (Reason.HOLD_RAIL_REVERSIBLE,), "record": record,
    }  # fmt: skip
    assert said(SCENE.hold_released(state, kept, HELD, Reason.RELEASE_TIMER)) == {
        **named("HoldReleased", 2), "tranche": 2, "reason": Reason.RELEASE_TIMER,
    }  # fmt: skip


def test_what_is_parked_lost_late_or_taken_back_is_told_whole() -> None:
    state, kept, record = recorded()
    state = replace(state, account=replace(AFTER, status="frozen", status_reason="overdue"))
    assert said(SCENE.parked(state, kept, PARKED, record)) == {
        **named("RestorationParked", 3), "tranche": 3, "amount_minor": 30, "currency": "CNY",
        "cause": "account_standing.frozen", "reason": Reason.ACCOUNT_OVERDUE, "condition": "account_active",
        "record": record,
    }  # fmt: skip
    assert said(SCENE.nothing(state, kept, Reason.ACCOUNT_CLOSED, record)) == {
        **named("NothingToRestore"), "repaid_at": FRIDAY, "trail": TRAIL, "currency": "CNY",
        "reason": Reason.ACCOUNT_CLOSED, "record": record,
    }  # fmt: skip
    assert SCENE.nothing(state, replace(kept, repaid_at=None), Reason.RETURNED, record).repaid_at == NOW
    assert said(SCENE.delayed(state, kept, 2, LATER, "system_delay.processing", record)) == {
        **named("RestorationDelayed", 2), "tranche": 2, "cause": "system_delay.processing", "promised_by": LATER,
        "record": record,
    }  # fmt: skip
    back = builders.repayment_returned(repayment_id="r1", code="R03")
    assert said(SCENE.reversed(state, kept, back, record, Taken(1, 2, 3, 4))) == {
        **named("RestorationReversed"), "currency": "CNY", "code": "R03", "return_class": back.return_class,
        "from_hold_minor": 1, "from_available_minor": 2, "reallocated_minor": 3, "uncovered_minor": 4,
        "available_credit_minor": 0, "available_raw_minor": -40, "zero_reason": Reason.LIMIT_LOWERED, "record": record,
    }  # fmt: skip


@pytest.mark.parametrize(("hours", "left"), [(-1, (0, 0)), (0, (0, 0)), (1, (50, 50))])
def test_r24_what_a_replay_takes_back_of_charges_is_overpaid_only_if_it_was_repaid_before_the_overpayment(
    hours: int, left: tuple[int, int]
) -> None:
    account = replace(Account(builders.ACCOUNT), overpaid_minor=50, overpaid_until=FRIDAY, credit_balance_minor=50)
    paid = Repayment("a", repaid_at=FRIDAY + timedelta(hours=hours))
    change = Reallocation(RepaymentId("a"), 50, 0)
    after = reallocated(profile(), State(account, {"a": paid}), (change,), "cause").account
    assert (after.overpaid_minor, after.credit_balance_minor) == left
    assert after.charges_minor == left[0]


def at(hours: int | None) -> datetime | None:
    return None if hours is None else FRIDAY + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("charges", "overpaid", "until", "change", "when", "left"),
    [
        (10, 0, None, -30, 0, (0, 20, 0, 20)),
        (0, 0, None, -1, 0, (0, 1, 0, 1)),
        (0, 20, 0, -5, -1, (0, 25, 0, 5)),
        (0, 20, 0, -5, 1, (0, 25, 1, 5)),
        (0, 20, 0, -5, None, (0, 25, None, 5)),
        (0, 20, None, -5, 0, (0, 25, None, 5)),
        (5, 20, 0, -5, 1, (0, 20, 0, 0)),
        (0, 20, 0, 5, 0, (0, 15, 0, -5)),
        (0, 20, 0, 5, None, (0, 15, 0, -5)),
        (0, 20, None, 5, 1, (0, 15, None, -5)),
        (0, 20, 0, 30, -1, (10, 0, None, -20)),
        (0, 20, 0, 20, 0, (0, 0, None, -20)),
        (3, 20, 0, 5, 1, (8, 20, 0, 0)),
        (3, 0, None, 5, 1, (8, 0, None, 0)),
        (3, 0, None, -2, None, (1, 0, None, 0)),
    ],
)
def test_r24_overpaid_charges_are_credit_balance_until_charges_of_their_time_come_back(
    charges: int, overpaid: int, until: int | None, change: int, when: int | None, left: tuple[int, int, Any, int]
) -> None:
    account = Account(builders.ACCOUNT, charges_minor=charges, overpaid_minor=overpaid, overpaid_until=at(until))
    after = account.charged(change, at(when))
    found = (after.charges_minor, after.overpaid_minor, after.overpaid_until, after.credit_balance_minor)
    assert found == (left[0], left[1], at(left[2]), left[3])


def test_every_entry_of_the_ledger_is_booked_by_the_name_of_what_it_follows() -> None:
    account = Account(builders.ACCOUNT).book(Journal("OPEN", "o1", available_minor=500)).limited("l1", 400, FRIDAY)
    account = account.authorised("a1", 100).posted("p1", "a1", 60).authorised("a2", 30).unauthorised("a2")
    assert account.journals[1:] == (
        Journal("CUT", "l1", available_minor=-100),
        Journal("AUTHORISE", "a1", available_minor=-100, used_authorisation_minor=100),
        Journal("POST", "p1", used_debt_minor=60, used_authorisation_minor=-60),
        Journal("UNAUTHORISE", "a1", available_minor=40, used_authorisation_minor=-40),
        Journal("AUTHORISE", "a2", available_minor=-30, used_authorisation_minor=30),
        Journal("UNAUTHORISE", "a2", available_minor=30, used_authorisation_minor=-30),
    )
    assert (account.available_minor, account.used_debt_minor) == (340, 60)


@pytest.mark.parametrize(("more", "lowered_at"), [(0, FRIDAY), (1, None)])
def test_r18_a_cut_is_forgotten_with_the_first_unit_that_is_available(more: int, lowered_at: datetime | None) -> None:
    cut = Account(builders.ACCOUNT, limit_lowered_at=FRIDAY)
    assert cut.book(Journal("RELEASE", "r1:1", available_minor=more)).limit_lowered_at == lowered_at


def test_r24_a_correction_takes_off_what_is_owed_before_it_is_overpaid() -> None:
    account = Account(builders.ACCOUNT, charges_minor=1_000, overpaid_minor=2_000, overpaid_until=FRIDAY)
    after = account.charged(-500, FRIDAY)
    assert (after.charges_minor, after.overpaid_minor, after.credit_balance_minor) == (500, 2_000, 0)


def test_a_credit_balance_of_the_smallest_unit_is_absorbed() -> None:
    account = Account(builders.ACCOUNT, used_debt_minor=5, credit_balance_minor=1).absorbed("e1")
    assert account.journals == (Journal("ABSORB", "e1", available_minor=1, used_debt_minor=-1),)


@pytest.mark.parametrize(("available", "shown"), [(100, 10), (3, 8)])
def test_r20_cash_is_what_its_sub_limit_leaves_of_what_may_be_spent_the_credit_balance_with_it(
    available: int, shown: int
) -> None:
    account = Account(builders.ACCOUNT, available_minor=available, credit_balance_minor=5, spendable=True)
    assert replace(account, cash_sub_limit_minor=60, cash_used_minor=50).cash_shown() == shown


def test_r18_a_spendable_credit_balance_is_shown_and_needs_no_reason_for_a_zero() -> None:
    account = Account(builders.ACCOUNT, credit_balance_minor=5, limit_lowered_at=FRIDAY)
    assert account.zero_reason(spendable=True) is None
    assert account.zero_reason(spendable=False) is Reason.LIMIT_LOWERED


# ---- what moves beside restorations ------------------------------------------------------------------------------

OWES = Account(builders.ACCOUNT, credit_limit_minor=1_000, available_minor=900, used_debt_minor=100, charges_minor=50)


def test_e07_what_is_principal_instead_of_a_charge_still_to_be_read_is_paid_at_once_under_a_ref_of_its_own() -> None:
    moved = builders.repayments_reallocated(reallocated=(), principal_instead_minor=5)
    after = absorbed(profile(), State(replace(OWES, charges_minor=0)), moved).account
    refs = [(journal.kind, journal.ref) for journal in after.journals]
    assert refs == [("REALLOCATE", moved.event_id), ("ABSORB", f"{moved.event_id}:instead")]
    assert (after.used_debt_minor, after.charges_minor, after.overpaid_minor) == (100, 0, 5)


@pytest.mark.parametrize(("corrected", "left"), [(8, 3), (3, 0)])
def test_e07_what_is_principal_instead_is_no_longer_kept_as_paid_of_charges_taken_off(
    corrected: int, left: int
) -> None:
    moved = builders.repayments_reallocated(reallocated=(), principal_instead_minor=5)
    after = absorbed(profile(), State(replace(OWES, corrected_minor=corrected)), moved).account
    assert (after.used_debt_minor, after.charges_minor, after.corrected_minor) == (105, 45, left)


@pytest.mark.parametrize(("change", "owed", "left"), [(-5, 45, 10), (4, 54, 6), (12, 62, 0)])
def test_e07_charges_that_are_owed_again_were_not_paid_of_those_taken_off(change: int, owed: int, left: int) -> None:
    after = charged(profile(), State(replace(OWES, corrected_minor=10)), change, None).account
    assert (after.charges_minor, after.corrected_minor) == (owed, left)


@pytest.mark.parametrize(
    ("known", "deltas", "balance", "owed", "left"),
    [
        ({}, (4, 5), 25, 54, 11),
        ({}, (-3, 5), 28, 50, 18),
        ({"joined": True}, (4, 5), 30, 59, 11),
        ({"returned": True}, (4, 5), 30, 59, 11),
        ({"joined": True, "returned": True}, (4, 5), 30, 59, 11),
    ],
)
def test_e07_a_held_overpayment_takes_back_what_it_gets_and_no_more_of_what_it_paid_of_charges_taken_off(
    known: dict[str, Any], deltas: tuple[int, int], balance: int, owed: int, left: int
) -> None:
    """It gets 5 of a credit balance of 30, where 20 came from charges taken off; 4 or -3 more may be restored of it."""
    account = replace(OWES, corrected_minor=20, credit_balance_minor=30)
    state = State(account, {"r1": Repayment("r1", **known)})
    after = reallocated(profile(), state, (Reallocation(RepaymentId("r1"), *deltas),), "cause").account
    assert (after.credit_balance_minor, after.charges_minor, after.corrected_minor) == (balance, owed, left)


def test_a_return_of_a_repayment_made_after_an_overpayment_leaves_what_was_overpaid() -> None:
    """10 were overpaid until Friday: a charge of the hour after it is owed again, and the credit balance pays it."""
    account = replace(OWES, charges_minor=0, overpaid_minor=10, overpaid_until=FRIDAY, credit_balance_minor=10)
    state = State(replace(account, used_debt_minor=0), {"r1": Repayment("r1", repaid_at=FRIDAY + HOUR)})
    paid = {"amount_minor": 7, "restorable_minor": 0, "credit_balance_minor": 0, "reallocated": ()}
    after = returned(SCENE, state, builders.repayment_returned(repayment_id="r1", **paid)).state.account
    assert (after.overpaid_minor, after.credit_balance_minor, after.charges_minor) == (10, 3, 0)


def test_a_return_tells_apart_what_replays_had_given_it_and_what_they_give_others() -> None:
    """50 were restored and replays gave 7 more past them; the return gives another repayment 3."""
    mine = replace(REPAYMENT, tranches={1: BACK}, restorable_minor=50, amount_minor=57, reallocated_available_minor=7)
    other = Repayment("r2", assessed=True, joined=True)
    state = State(replace(OWES, charges_minor=0), {"r1": replace(mine, reallocated_minor=7, joined=True), "r2": other})
    paid = {"amount_minor": 57, "restorable_minor": 57, "credit_balance_minor": 0}
    moved = (Reallocation(RepaymentId("r2"), 3, -3),)
    event = builders.repayment_returned(repayment_id="r1", reallocated=moved, **paid)
    done = returned(SCENE, state, event)
    (fact,) = done.events
    assert isinstance(fact, RestorationReversed)
    assert (fact.from_available_minor, fact.reallocated_minor, fact.uncovered_minor) == (57, 3, 3)
    assert [(j.kind, j.ref, j.available_minor) for j in done.state.account.journals] == [
        ("REVERSE", "r1:1", -50),
        ("REALLOCATE", f"{event.event_id}:r1", -7),
        ("REALLOCATE", f"{event.event_id}:r2", 3),
        ("UNCOVER", event.event_id, -3),
    ]


@pytest.mark.parametrize(("assessed", "joined", "more"), [(True, False, 30), (True, True, 0), (False, False, 0)])
def test_e07_charges_are_principal_for_what_of_a_returned_overpayment_was_held_here_and_nothing_else(
    assessed: bool, joined: bool, more: int
) -> None:
    """A refund paid 30 of the 50 charges that an overpayment of 40 pays in settlement, where 5 are still owed."""
    known = Repayment("r1", assessed=assessed, joined=joined, amount_minor=40, credit_balance_minor=40)
    held = replace(OWES, credit_balance_minor=40 if joined else 0)
    paid = {"amount_minor": 40, "restorable_minor": 0, "credit_balance_minor": 40, "reallocated": ()}
    said = {"charges_settled_minor": 30, "charges_owed_minor": 5}
    event = builders.repayment_returned(repayment_id="r1", **paid, **said)
    after = returned(SCENE, State(held, {"r1": known}), event).state.account
    assert (after.used_debt_minor, after.charges_minor) == (100 + more, 50 - more)


# ---- a first verdict ---------------------------------------------------------------------------------------------

LATE = FRIDAY + timedelta(minutes=5)
USED = Account(
    builders.ACCOUNT,
    product="default",
    currency="CNY",
    credit_limit_minor=1_000,
    available_minor=900,
    used_debt_minor=100,
)
WHY = Reason.RELEASE_WITHIN_CAP


def first(account: Account, known: Repayment | None = None, **changes: Any) -> Any:
    """Take in a verdict of 100, of which 70 are due on Friday, five minutes after that; 60 s were promised."""
    said = {"repayment_id": "r1", "amount_minor": 100, "restorable_minor": 70, "settled_at": FRIDAY, "revision": 2}
    parts = {"credit_balance_minor": 30, "tranches": (Part(1, 70, FRIDAY, WHY),), "reasons": (WHY,)}
    event = builders.risk_assessed(**{**said, **parts, **changes})
    return event, decide(profiles(), State(account, {"r1": known} if known else {}), event, moment(LATE))


def test_a_verdict_is_taken_in_with_its_revision_and_a_late_part_with_what_was_promised() -> None:
    _, decision = first(USED)
    repayment = decision.state.repayments["r1"]
    assert (repayment.revision, repayment.reasons) == (2, (WHY, Reason.PAID_CREDIT_BALANCE))
    by = FRIDAY + timedelta(seconds=60)
    assert repayment.tranches == {1: Tranche("r1", 1, 70, "restored", FRIDAY, WHY, by, LATE, 1, delayed=True)}
    broken, restored = only(decision.events, RestorationDelayed), only(decision.events, CreditRestored)
    assert (broken.cause, broken.promised_by) == ("system_delay.processing", by)
    assert broken.record == restored.record


def test_a_verdict_tells_four_reasons_and_no_more() -> None:
    assert first(USED, reasons=FIVE[:4])[1].state.repayments["r1"].reasons == FIVE[:4]


def test_a_part_that_is_parked_keeps_its_reason() -> None:
    _, decision = first(replace(USED, status="frozen", status_reason="RISK"))
    (part,) = decision.state.repayments["r1"].tranches.values()
    assert (part.state, part.until, part.reason) == ("parked", FRIDAY, WHY)


def test_r24_what_replays_moved_before_a_verdict_and_after_it_is_booked_under_what_told_it() -> None:
    """20 less of the 70 may be restored: they are owed again, and a credit balance of 50 pays them."""
    account = replace(USED, available_minor=930, used_debt_minor=70, credit_balance_minor=50)
    event, decision = first(account, Repayment("r1", reallocated_minor=-20), credit_balance_minor=0, amount_minor=70)
    refs = [(j.kind, j.ref) for j in decision.state.account.journals if j.kind in ("REALLOCATE", "ABSORB")]
    assert refs == [("REALLOCATE", f"{event.event_id}:r1"), ("ABSORB", event.event_id)]
    moved = (Reallocation(RepaymentId("r1"), 5, -5),)
    later = builders.repayment_settled(repayment_id="r2", reallocated=moved)
    journals = decide(profiles(), decision.state, later, moment(LATE)).state.account.journals
    assert [j.ref for j in journals if j.kind == "REALLOCATE"][1:] == [f"{later.event_id}:r1"]
