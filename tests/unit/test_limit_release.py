"""limit-release: the availability ledger and the credit lane beside their rules."""

from dataclasses import replace
from datetime import timedelta

import pytest

from schemas.event import Event
from schemas.ids import event_id
from schemas.reasons import Reason
from schemas.restoration import (
    CreditRestored,
    HoldPlaced,
    NothingToRestore,
    PromiseMade,
    RestorationParked,
    RestorationReversed,
)
from schemas.risk import Tranche
from services.decision import Internal, Malformed
from services.limit_release.domain import cause_of, decide
from services.limit_release.model import Account, State
from tests import builders
from tests.unit.given import ALL_HELD, FRIDAY, Pipe, all_of, check_ledger, china, moment, only, profiles

TUESDAY, NEXT_FRIDAY = china("2026-11-24", "09:00"), china("2026-11-27", "09:00")
TOTAL = profiles({"limit_basis": "TOTAL"})


def authorised(amount: int, ref: str = "a1") -> Event:
    return builders.authorisation_placed(authorisation_id=ref, amount_minor=amount)


def kinds(account: Account) -> list[str]:
    return [journal.kind for journal in account.journals]


def test_e13_anything_of_an_unknown_account_is_parked() -> None:
    pipe = Pipe()
    pipe.take(builders.credit_limit_changed())
    assert ("limit-release", "parked") in pipe.outcomes


def test_an_account_is_opened_once() -> None:
    pipe = Pipe().open(100)
    pipe.take(builders.account_opened(credit_limit_minor=900))
    assert ("limit-release", "stale") in pipe.outcomes
    assert kinds(pipe.account) == ["OPEN"]


@pytest.mark.parametrize(("limit", "kind"), [(150, "RAISE"), (100, "RAISE"), (60, "CUT"), (0, "CUT")])
def test_a_changed_limit_changes_what_is_available(limit: int, kind: str) -> None:
    pipe = Pipe().open(100, principal=30)
    pipe.take(builders.credit_limit_changed(credit_limit_minor=limit))
    assert (pipe.account.available_minor, kinds(pipe.account)[-1]) == (limit - 30, kind)


def test_e03_authorisations_count_from_the_moment_they_are_placed() -> None:
    pipe = Pipe().open(500)
    for n in range(6):
        pipe.take(authorised(100, f"a{n}"))
    assert pipe.account.available_minor == -100
    assert pipe.account.zero_reason(spendable=False) is Reason.OVER_LIMIT


def test_e01_e02_an_authorisation_is_placed_and_released_once() -> None:
    pipe = Pipe().open(500)
    pipe.take(authorised(100))
    pipe.take(builders.authorisation_placed(authorisation_id="a1", amount_minor=200))
    assert pipe.outcomes[-1] == ("limit-release", "stale")
    released = builders.authorisation_released(authorisation_id="a1")
    for _ in range(3):
        pipe.take(released)
    pipe.take(authorised(100))
    assert pipe.account.available_minor == 500
    assert kinds(pipe.account) == ["OPEN", "AUTHORISE", "UNAUTHORISE"]


@pytest.mark.parametrize(
    ("amount", "booked"),
    [
        (100, ["POST"]),
        (60, ["POST", "UNAUTHORISE"]),
        (130, ["POST", "PURCHASE"]),
    ],
)
def test_a_posted_purchase_uses_its_authorisation_first(amount: int, booked: list[str]) -> None:
    pipe = Pipe().open(500)
    pipe.take(authorised(100))
    pipe.buy(amount, ref="p1", authorisation="a1")
    assert kinds(pipe.account)[2:] == booked
    assert (pipe.account.available_minor, pipe.account.used_debt_minor) == (500 - amount, amount)
    assert pipe.account.used_authorisation_minor == 0
    pipe.buy(10, ref="p2", authorisation="a1")
    assert kinds(pipe.account)[-1] == "PURCHASE"


def test_a_purchase_with_an_unknown_authorisation_uses_available_credit() -> None:
    pipe = Pipe().open(500)
    pipe.buy(100, ref="p1", authorisation="never_seen")
    assert kinds(pipe.account) == ["OPEN", "PURCHASE"]


def test_a_refund_beyond_the_debt_becomes_credit_balance() -> None:
    pipe = Pipe().open(500, principal=100)
    pipe.take(builders.purchase_refunded(to_debt_minor=130))
    assert (pipe.account.available_minor, pipe.account.credit_balance_minor) == (500, 30)
    assert pipe.debt.credit_balance_minor == 30
    pipe.take(builders.credit_balance_refunded(amount_minor=40))
    assert pipe.account.credit_balance_minor == pipe.debt.credit_balance_minor == 0


def test_e07_what_a_refund_leaves_over_pays_charges_at_once_and_a_payout_of_it_is_debt() -> None:
    pipe = Pipe().open(100_000, principal=30_000)
    pipe.repay(30_000)
    pipe.take(builders.charges_accrued(penalty_minor=0, fee_minor=2_000, interest_minor=1_000))
    pipe.take(builders.purchase_refunded(to_debt_minor=1_500))
    assert (pipe.debt.fee_minor, pipe.debt.interest_minor, pipe.debt.credit_balance_minor) == (500, 1_000, 0)
    assert (pipe.account.charges_minor, pipe.account.credit_balance_minor) == (1_500, 0)
    pipe.take(builders.credit_balance_refunded(amount_minor=1_500))
    assert pipe.debt.principal_minor == pipe.account.used_debt_minor == 1_500
    assert (pipe.account.available_minor, pipe.account.charges_minor) == (98_500, 1_500)


@pytest.mark.parametrize(
    ("balance", "used", "charges", "left"),
    [
        (300, 100, 50, (150, 0, 0)),
        (120, 100, 50, (0, 30, 0)),
        (0, -40, 30, (10, 0, 0)),
        (0, -40, 60, (0, 0, 20)),
        (-50, 100, 20, (0, 150, 20)),
        (-50, -40, 20, (0, 10, 20)),
    ],
)
def test_e07_a_credit_balance_pays_charges_then_debt_whatever_it_comes_from_and_a_second_time_changes_nothing(
    balance: int, used: int, charges: int, left: tuple[int, int, int]
) -> None:
    account = Account(
        builders.ACCOUNT, credit_limit_minor=500, available_minor=500 - used, used_debt_minor=used,
        credit_balance_minor=balance, charges_minor=charges,
    )  # fmt: skip
    once = account.absorbed("a")
    assert (once.credit_balance_minor, once.used_debt_minor, once.charges_minor) == left
    assert once.available_minor + once.used_debt_minor == 500
    assert once.absorbed("b") == once


def test_r24_charges_corrected_after_they_were_paid_are_not_used_twice_when_their_repayment_is_returned() -> None:
    pipe = Pipe().open(100_000, principal=30_000)
    accrued_at, corrected_at = FRIDAY - timedelta(hours=1), FRIDAY + timedelta(hours=1)
    charges = {"penalty_minor": 0, "interest_minor": 1_000}
    pipe.take(builders.charges_accrued(**charges, event_id="c1", fee_minor=2_000, occurred_at=accrued_at))
    pipe.repay(20_000)
    assert (pipe.account.available_minor, pipe.account.used_debt_minor) == (87_000, 13_000)
    fee_back = builders.charges_accrued(
        event_id="c2", penalty_minor=0, fee_minor=-2_000, interest_minor=0, occurred_at=corrected_at
    )
    pipe.take(fee_back, corrected_at)
    assert pipe.account.used_debt_minor == pipe.debt.principal_minor == 11_000, "the fee's money pays principal"
    pipe.give_back(20_000)
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor, pipe.debt.interest_minor) == (30_000, 0, 1_000)
    assert (pipe.account.used_debt_minor, pipe.account.charges_minor) == (30_000, 1_000)
    assert pipe.account.overpaid_minor == 0


def test_r24_a_charge_another_repayment_had_paid_stays_paid_when_one_is_returned() -> None:
    pipe = Pipe().open(100_000, principal=50_000)
    pipe.repay(51_000, ref="r1")
    later = FRIDAY + timedelta(hours=1)
    pipe.take(builders.charges_accrued(penalty_minor=0, fee_minor=1_000, interest_minor=0, occurred_at=later), later)
    pipe.now = later + timedelta(minutes=1)
    pipe.buy(30_000, ref="p2")
    pipe.repay(20_000, ref="r2", at=later + timedelta(hours=1))
    pipe.give_back(20_000, ref="r2")
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor) == (30_000, 0)
    assert (pipe.account.used_debt_minor, pipe.account.charges_minor, pipe.account.available_minor) == (
        30_000,
        0,
        70_000,
    )


def test_r24_a_new_charge_after_a_correction_uses_no_credit_where_charges_do_not() -> None:
    pipe = Pipe().open(100_000, principal=30_000)
    before = FRIDAY - timedelta(hours=1)
    pipe.take(
        builders.charges_accrued(event_id="c1", penalty_minor=0, fee_minor=2_000, interest_minor=0, occurred_at=before)
    )
    pipe.repay(20_000)
    assert pipe.account.used_debt_minor == pipe.debt.principal_minor == 12_000
    later = FRIDAY + timedelta(days=1)
    for n, fee in enumerate((-2_000, 500)):
        charged = {"penalty_minor": 0, "fee_minor": fee, "interest_minor": 0}
        at = later + timedelta(hours=n)
        pipe.take(builders.charges_accrued(event_id=f"late-{n}", **charged, occurred_at=at), at)
    assert (pipe.account.used_debt_minor, pipe.account.charges_minor) == (10_000, 500)
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor) == (10_000, 500)


@pytest.mark.parametrize("corrected_first", [True, False])
def test_r24_a_charge_told_late_between_a_repayment_and_a_correction_is_what_the_correction_takes_off(
    corrected_first: bool,
) -> None:
    """A correction read before the repayment that had paid its charges says when these are overpaid, not the repayment.

    In value order it finds the charge told late, and takes that off; it had paid principal while nobody knew of it.
    """
    pipe = Pipe().open(100_000, principal=30_000, fee=500, interest=700)
    corrected_at = FRIDAY + timedelta(hours=3)
    none = {"penalty_minor": 0, "interest_minor": 0}
    correction = builders.charges_accrued(**none, event_id="c2", fee_minor=-300, occurred_at=corrected_at)
    late = builders.charges_accrued(**none, event_id="c3", fee_minor=3_000, occurred_at=FRIDAY + timedelta(hours=2))
    if corrected_first:
        pipe.take(correction, corrected_at)
        pipe.repay(1_200)
    else:
        pipe.repay(1_200)
        pipe.take(correction, corrected_at)
    assert pipe.account.used_debt_minor == pipe.debt.principal_minor == 29_700
    pipe.take(late)
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor) == (30_000, 2_700)
    assert (pipe.account.used_debt_minor, pipe.account.charges_minor) == (30_000, 2_700)
    assert (pipe.account.overpaid_minor, pipe.account.available_minor) == (0, 70_000)


def test_e16_charges_read_after_the_repayment_that_paid_them_use_no_credit() -> None:
    charge = builders.charges_accrued(
        penalty_minor=0, fee_minor=3_000, interest_minor=0, occurred_at=FRIDAY - timedelta(days=1)
    )
    common = {"amount_minor": 20_000, "restorable_minor": 17_000, "settled_at": FRIDAY}
    settled = builders.repayment_settled(**common)
    tranche = builders.risk_assessed().tranches[0]._replace(amount_minor=17_000, due_at=FRIDAY)
    paid = [settled, builders.risk_assessed(**common, tranches=(tranche,))]
    ends = []
    for order in ([charge, *paid], [*paid, charge], [paid[0], charge, paid[1]]):
        state = State(Account(builders.ACCOUNT))
        opened = builders.account_opened(credit_limit_minor=100_000)
        bought = builders.purchase_posted(amount_minor=30_000)
        for event in (opened, bought, *order):
            state = decide(profiles(), state, event, moment(FRIDAY)).state
        ends.append(replace(state.account, journals=()))
    assert (ends[0].used_debt_minor, ends[0].charges_minor, ends[0].credit_balance_minor) == (13_000, 0, 0)
    assert [(end.used_debt_minor, end.charges_minor, end.overpaid_minor) for end in ends] == [(13_000, 0, 0)] * 3


def test_e16_a_charge_after_a_repayment_is_owed_though_one_it_paid_before_is_not_read_yet() -> None:
    common = {"amount_minor": 20_000, "restorable_minor": 17_000, "settled_at": FRIDAY}
    tranche = builders.risk_assessed().tranches[0]._replace(amount_minor=17_000, due_at=FRIDAY)
    none = {"penalty_minor": 0, "interest_minor": 0}
    events = (
        builders.account_opened(credit_limit_minor=100_000),
        builders.purchase_posted(amount_minor=30_000),
        builders.repayment_settled(**common),
        builders.risk_assessed(**common, tranches=(tranche,)),
        builders.charges_accrued(**none, fee_minor=500, occurred_at=FRIDAY + timedelta(hours=1)),
        builders.charges_accrued(**none, fee_minor=3_000, occurred_at=FRIDAY - timedelta(days=1)),
    )
    state, owed = State(Account(builders.ACCOUNT)), []
    for event in events:
        state = decide(profiles(), state, event, moment(FRIDAY)).state
        owed.append((state.account.used_debt_minor, state.account.charges_minor))
    assert owed[-2:] == [(10_000, 500), (13_000, 500)]


def test_e02_the_same_purchase_or_refund_under_another_event_id_counts_once() -> None:
    pipe = Pipe().open(500, principal=100)
    for event in (
        builders.purchase_posted(purchase_id="p1", amount_minor=50),
        builders.purchase_refunded(to_debt_minor=30),
    ):
        pipe.take(event)
        pipe.take(event.model_copy(update={"event_id": "another"}))
    assert kinds(pipe.account) == ["OPEN", "PURCHASE", "PURCHASE", "REFUND"]
    assert pipe.debt.principal_minor == pipe.account.used_debt_minor == 120


def test_a_repayment_dated_ahead_of_our_clock_is_restored_at_its_own_instant_and_never_before() -> None:
    pipe = Pipe().open(500, principal=100)
    ahead = FRIDAY + timedelta(seconds=30)
    report = builders.repayment_reported(rail="wallet", amount_minor=40, repaid_at=ahead)
    restored = only(pipe.take(report, FRIDAY), CreditRestored)
    assert (restored.restored_at, restored.trail) == (ahead, ())


@pytest.mark.parametrize(("fee", "available", "balance"), [(20, 380, 0), (-30, 430, 0), (-130, 500, 30)])
def test_charges_use_credit_under_total_and_a_correction_never_gives_more_than_the_limit(
    fee: int, available: int, balance: int
) -> None:
    pipe = Pipe(TOTAL).open(500, principal=100)
    pipe.take(builders.charges_accrued(penalty_minor=0, fee_minor=fee, interest_minor=0))
    assert (pipe.account.available_minor, pipe.account.credit_balance_minor) == (available, balance)
    assert pipe.debt.credit_balance_minor == balance


def test_charges_do_not_use_credit_under_principal() -> None:
    pipe = Pipe().open(500, principal=100)
    pipe.take(builders.charges_accrued())
    assert (pipe.account.available_minor, pipe.account.charges_minor) == (400, 350)
    assert kinds(pipe.account) == ["OPEN", "PURCHASE"]


def test_a_credit_balance_pays_charges_that_do_not_use_credit_too() -> None:
    pipe = Pipe().open(500, principal=100)
    pipe.repay(150)
    later = FRIDAY + timedelta(days=1)
    pipe.take(builders.charges_accrued(penalty_minor=0, fee_minor=20, interest_minor=0, occurred_at=later), later)
    later += timedelta(days=1)
    pipe.take(builders.purchase_posted(purchase_id="p2", amount_minor=40, occurred_at=later), later)
    assert (pipe.account.available_minor, pipe.account.credit_balance_minor) == (490, 0)
    assert pipe.account.used_debt_minor == pipe.debt.principal_minor == 10


def test_r26_billings_own_events_in_another_currency_are_malformed() -> None:
    pipe = Pipe().open(500)
    with pytest.raises(Malformed, match="currency_mismatch"):
        pipe.take(builders.credit_limit_changed(currency="USD"))


def test_a_refund_read_before_the_verdict_ends_like_one_read_after_it() -> None:
    def end(*, refund_first: bool) -> Account:
        state = Pipe().open(1_000, principal=300).credit
        assessed = builders.risk_assessed(
            amount_minor=300,
            restorable_minor=300,
            tranches=(Tranche(1, 300, FRIDAY, Reason.RELEASE_FINAL_RAIL),),
        )
        refund = builders.purchase_refunded(to_debt_minor=100)
        for event in (refund, assessed) if refund_first else (assessed, refund):
            state = decide(profiles(), state, event, moment(FRIDAY)).state
            check_ledger(state.account)
        return state.account

    first, last = end(refund_first=True), end(refund_first=False)
    assert (first.available_minor, first.credit_balance_minor) == (1_000, 100)
    assert (last.available_minor, last.credit_balance_minor) == (1_000, 100)


def test_a_return_before_its_verdict_leaves_a_tombstone() -> None:
    pipe = Pipe().open(500_000, principal=500_000)
    returned = builders.repayment_returned(reallocated=())
    first = decide(pipe.policy, pipe.credit, returned, moment(FRIDAY))
    assert (first.reason, first.events) == ("waits_for_its_assessment", ())
    late = decide(pipe.policy, first.state, builders.risk_assessed(), moment(FRIDAY))
    assert only(late.events, NothingToRestore).reason is Reason.RETURNED
    assert kinds(late.state.account) == ["OPEN", "PURCHASE"]
    again = decide(pipe.policy, late.state, returned, moment(FRIDAY))
    assert (again.outcome, again.reason) == ("stale", "returned_before")


def test_e16_a_verdict_is_taken_once() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    first = decide(pipe.policy, pipe.credit, builders.risk_assessed(), moment(FRIDAY))
    again = decide(pipe.policy, first.state, builders.risk_assessed(tier="D"), moment(FRIDAY))
    assert (again.outcome, again.reason, again.state) == ("stale", "assessed_before", first.state)


def test_a_timer_of_an_unknown_repayment_is_stale() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(500_000, principal=490_000)
    pipe.repay(100_000, rail="direct_debit")
    pipe.credit = State(pipe.account)
    assert pipe.pass_until(NEXT_FRIDAY) == []
    assert pipe.outcomes[-1] == ("limit-release", "stale")


def frozen_in_between() -> Pipe:
    """Freeze an account, then take a repayment with one tranche due and two ahead."""
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.status("frozen")
    parked = all_of(pipe.repay(500_000, rail="direct_debit"), RestorationParked)
    assert [event.amount_minor for event in parked] == [100_000, 200_000, 200_000]
    assert not pipe.waits
    return pipe


def test_a_thaw_before_the_dates_restores_what_is_due_and_holds_the_rest_again() -> None:
    pipe = frozen_in_between()
    facts = pipe.status("active", now=FRIDAY + timedelta(hours=3))
    assert only(facts, CreditRestored).amount_minor == 100_000
    assert [event.until for event in all_of(facts, HoldPlaced)] == [TUESDAY, NEXT_FRIDAY]
    for hold in all_of(facts, HoldPlaced):
        assert hold.reasons == (Reason.HOLD_RAIL_REVERSIBLE, Reason.HOLD_OVER_INSTANT_CAP)
    assert [event.basis for event in all_of(facts, PromiseMade)] == ["clear", "hold", "hold"]
    assert len(pipe.waits) == 4
    pipe.pass_until(NEXT_FRIDAY)
    assert pipe.account.available_minor == 550_000


def test_a_thaw_with_every_date_ahead_only_holds_again() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(500_000, principal=490_000)
    pipe.status("frozen")
    pipe.repay(100_000, rail="direct_debit")
    facts = pipe.status("active", now=FRIDAY + timedelta(hours=3))
    assert only(facts, HoldPlaced).until == TUESDAY
    assert only(facts, HoldPlaced).record.outcome == "held"
    assert not all_of(facts, CreditRestored)


def test_a_thaw_after_the_dates_restores_everything() -> None:
    pipe = frozen_in_between()
    facts = pipe.status("active", now=NEXT_FRIDAY)
    assert [event.amount_minor for event in all_of(facts, CreditRestored)] == [100_000, 200_000, 200_000]
    assert not pipe.waits


def test_a_hold_that_ends_while_frozen_is_parked() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(500_000, principal=490_000)
    pipe.repay(100_000, rail="direct_debit")
    pipe.status("frozen", "overdue")
    parked = only(pipe.pass_until(TUESDAY), RestorationParked)
    assert (parked.reason, parked.record.parked_minor) == (Reason.ACCOUNT_OVERDUE, 100_000)
    assert pipe.account.available_minor == 10_000


def test_an_account_that_never_parked_anything_thaws_quietly() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(500_000, principal=490_000)
    pipe.repay(100_000, rail="direct_debit")
    pipe.status("frozen")
    assert len(pipe.status("active")) == 1


def test_closing_lets_what_waits_lapse_and_a_return_voids_it() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    nothing = only(pipe.status("closed"), NothingToRestore)
    assert nothing.reason is Reason.ACCOUNT_CLOSED
    assert pipe.repayment("r1").part("lapsed") == pipe.account.pending_minor == 400_000
    pipe.pass_until(NEXT_FRIDAY + timedelta(days=1))
    assert pipe.account.pending_minor == 400_000
    reversal = only(pipe.give_back(500_000, rail="direct_debit"), RestorationReversed)
    assert (reversal.from_hold_minor, reversal.from_available_minor) == (400_000, 100_000)
    assert pipe.account.used_debt_minor == pipe.debt.principal_minor == 550_000


def test_a_returned_overpayment_that_was_used_is_uncovered() -> None:
    pipe = Pipe().open(100_000, principal=30_000)
    pipe.repay(50_000)
    pipe.buy(15_000, ref="p2")
    reversal = only(pipe.give_back(50_000), RestorationReversed)
    assert (reversal.from_available_minor, reversal.uncovered_minor) == (30_000, 15_000)
    assert pipe.account.available_minor == 55_000
    assert pipe.account.used_debt_minor == pipe.debt.principal_minor == 45_000
    assert pipe.account.credit_balance_minor == pipe.debt.credit_balance_minor == 0


def test_e06_a_returned_repayment_is_paid_by_the_credit_balance_of_another() -> None:
    pipe = Pipe().open(100_000, principal=30_000)
    pipe.repay(30_000, ref="a")
    pipe.repay(10_000, ref="b")
    pipe.give_back(30_000, ref="a")
    assert pipe.account.used_debt_minor == pipe.debt.principal_minor == 20_000
    pipe.give_back(10_000, ref="b")
    assert pipe.account.used_debt_minor == pipe.debt.principal_minor == 30_000


def test_a_repayment_partly_for_fees_and_partly_beyond_the_debt_says_so() -> None:
    pipe = Pipe().open(1_000, principal=100, fee=20)
    record = only(pipe.repay(150), CreditRestored).record
    assert record.reasons == (Reason.RELEASE_FINAL_RAIL, Reason.PAID_CREDIT_BALANCE, Reason.PAID_FEES_AND_INTEREST)
    assert (record.amount_minor, record.restored_minor) == (150, 100)


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        (Account(builders.ACCOUNT, available_minor=1), None),
        (Account(builders.ACCOUNT), None),
        (Account(builders.ACCOUNT, limit_lowered_at=FRIDAY), Reason.LIMIT_LOWERED),
        (Account(builders.ACCOUNT, available_minor=-1), Reason.OVER_LIMIT),
        (Account(builders.ACCOUNT, available_minor=-1, limit_lowered_at=FRIDAY), Reason.LIMIT_LOWERED),
        (
            Account(builders.ACCOUNT, available_minor=-1, limit_lowered_at=FRIDAY, status="closed"),
            Reason.ACCOUNT_CLOSED,
        ),
        (Account(builders.ACCOUNT, available_minor=5, status="frozen"), Reason.ACCOUNT_FROZEN),
        (Account(builders.ACCOUNT, status="frozen", status_reason="overdue"), Reason.ACCOUNT_OVERDUE),
    ],
)
def test_r18_a_shown_zero_has_its_reason(account: Account, reason: Reason | None) -> None:
    assert account.zero_reason(spendable=False) is reason


def test_a_limit_cut_is_forgotten_once_credit_is_available_again() -> None:
    pipe = Pipe().open(100, principal=80)
    pipe.take(builders.credit_limit_changed(credit_limit_minor=80))
    assert pipe.account.zero_reason(spendable=False) is Reason.LIMIT_LOWERED
    pipe.repay(50)
    pipe.buy(60, ref="p2")
    assert pipe.account.zero_reason(spendable=False) is Reason.OVER_LIMIT


def test_an_input_without_an_id_of_its_own_has_a_derived_cause() -> None:
    assert cause_of(Internal(builders.ACCOUNT)) == event_id("TimerFired", "")


def test_an_internal_input_that_is_not_ours_is_ignored() -> None:
    pipe = Pipe().open(100)
    assert decide(pipe.policy, pipe.credit, Internal(builders.ACCOUNT), moment(FRIDAY)).outcome == "ignored"


def test_parked_credit_balance_waits_with_its_repayment() -> None:
    pipe = Pipe().open(500, principal=100)
    pipe.status("frozen")
    pipe.repay(150)
    assert pipe.account.credit_balance_minor == 0
    pipe.status("active")
    assert pipe.account.credit_balance_minor == 50
    assert pipe.repayment("r1").part("restored") == 100


def test_an_assessed_repayment_knows_when_it_was_repaid() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(500_000, principal=490_000)
    pipe.repay(100_000, rail="direct_debit")
    pipe.credit = pipe.credit.put(replace(pipe.repayment("r1"), repaid_at=None))
    with pytest.raises(ValueError, match=r"^an assessed repayment has repaid_at$"):
        pipe.pass_until(TUESDAY)
