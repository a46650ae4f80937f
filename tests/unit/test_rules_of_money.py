"""Rules R1 to R8, R10 to R12, R17, R18, R22, R23 and R26 with the figures of the rule book, through all services."""

from datetime import date, timedelta

import pytest

from schemas.intake import RepaymentConflicted
from schemas.reasons import Reason
from schemas.restoration import (
    CreditRestored,
    HoldPlaced,
    HoldReleased,
    NothingToRestore,
    PromiseMade,
    RestorationParked,
    RestorationReversed,
)
from schemas.settlement import Allocation, RepaymentRejected, RepaymentReturned, RepaymentSettled
from tests import builders
from tests.unit.given import ALL_HELD, FRIDAY, Pipe, all_of, china, only, profiles

FEE_FIRST = ["penalty", "fee", "interest", "principal"]
INTEREST_FIRST = ["interest", "fee", "penalty", "principal"]


def basis(name: str, order: list[str] = FEE_FIRST) -> Pipe:
    """Open R2's account: limit 1000000, principal 800000, interest 12000, fees 3000."""
    pipe = Pipe(profiles({"limit_basis": name, "waterfall.component": order}))
    return pipe.open(1_000_000, principal=800_000, interest=12_000, fee=3_000)


def test_r01_a_held_repayment_leaves_available_as_before_and_its_end_adds_it() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(500_000, principal=490_000)
    assert pipe.account.available_minor == 10_000
    pipe.repay(100_000, rail="direct_debit")
    assert (pipe.account.used_debt_minor, pipe.account.pending_minor) == (390_000, 100_000)
    assert pipe.account.available_minor == 10_000
    pipe.pass_until(china("2026-11-24", "09:00"))
    assert pipe.account.available_minor == 110_000


@pytest.mark.parametrize(
    ("name", "before", "restorable"), [("PRINCIPAL", 200_000, 85_000), ("TOTAL", 185_000, 100_000)]
)
def test_r02_the_limit_basis_says_what_part_restores(name: str, before: int, restorable: int) -> None:
    pipe = basis(name)
    assert pipe.account.available_minor == before
    facts = pipe.repay(100_000)
    settled = only(facts, RepaymentSettled)
    assert settled.allocation == Allocation(fee_minor=3_000, interest_minor=12_000, principal_minor=85_000)
    assert settled.restorable_minor == restorable
    assert only(facts, CreditRestored).available_credit_minor == 285_000
    assert pipe.account.available_minor == 285_000


def test_r03_a_repayment_of_fees_and_interest_alone_restores_nothing_under_principal() -> None:
    pipe = basis("PRINCIPAL")
    facts = pipe.repay(10_000)
    assert only(facts, RepaymentSettled).allocation == Allocation(fee_minor=3_000, interest_minor=7_000)
    assert only(facts, NothingToRestore).reason is Reason.PAID_FEES_AND_INTEREST
    assert not all_of(facts, HoldPlaced)
    assert pipe.account.available_minor == 200_000
    assert not pipe.waits


def test_r03_under_total_the_same_repayment_restores_all_of_it() -> None:
    pipe = basis("TOTAL")
    pipe.repay(10_000)
    assert pipe.account.available_minor == 195_000


def test_r03_the_order_of_components_is_the_profiles() -> None:
    settled = only(basis("PRINCIPAL", INTEREST_FIRST).repay(10_000), RepaymentSettled)
    assert settled.allocation == Allocation(interest_minor=10_000)


@pytest.mark.parametrize(("cut_off", "day"), [("24:00", 20), ("17:00", 21)])
def test_r04_the_credited_date_is_the_local_date_of_the_repayment_not_of_the_restoration(
    cut_off: str, day: int
) -> None:
    pipe = Pipe(profiles({**ALL_HELD, "calendar.credited_cut_off": cut_off})).open(500_000, principal=490_000)
    facts = pipe.repay(100_000, at=china("2026-11-20", "23:10"), rail="direct_debit")
    assert only(facts, RepaymentSettled).credited_on == date(2026, 11, day)
    assert only(facts, HoldPlaced).until > china("2026-11-23", "00:00")
    assert pipe.debt.principal_minor == 390_000, "interest is on 390000 from the credited date on"


def test_r05_what_is_paid_beyond_the_debt_is_credit_balance() -> None:
    pipe = Pipe().open(100_000, principal=30_000)
    settled = only(pipe.repay(50_000), RepaymentSettled)
    assert (settled.restorable_minor, settled.credit_balance_minor) == (30_000, 20_000)
    assert pipe.account.available_minor == 100_000
    assert pipe.account.credit_balance_minor == pipe.debt.credit_balance_minor == 20_000


@pytest.mark.parametrize(("spendable", "shown"), [(False, 10_000), (True, 60_000)])
def test_r05_e22_a_credit_balance_is_spendable_by_profile_and_absorbs_the_posted_purchase(
    *, spendable: bool, shown: int
) -> None:
    pipe = Pipe(profiles({"credit_balance_spendable": spendable})).open(100_000)
    pipe.repay(50_000)
    pipe.take(builders.authorisation_placed(authorisation_id="a1", amount_minor=90_000))
    assert pipe.account.shown(spendable=spendable) == shown
    pipe.buy(90_000, ref="p1", authorisation="a1")
    assert [journal.kind for journal in pipe.account.journals][-2:] == ["POST", "ABSORB"]
    assert pipe.account.journals[-1].available_minor == 50_000
    assert pipe.account.used_debt_minor == pipe.debt.principal_minor == 40_000
    assert pipe.account.shown(spendable=spendable) == 60_000


def test_r05_a_held_overpayment_is_not_spendable_until_the_last_hold_is_over() -> None:
    pipe = Pipe(profiles({"credit_balance_spendable": True})).open(400_000, principal=300_000)
    pipe.repay(350_000, rail="direct_debit")
    assert pipe.account.shown(spendable=True) == 200_000
    pipe.pass_until(china("2026-11-24", "09:00"))
    assert pipe.account.shown(spendable=True) == 300_000
    pipe.pass_until(china("2026-11-27", "09:00"))
    assert pipe.account.shown(spendable=True) == 450_000


def returned_in_part() -> Pipe:
    """Run R7 up to its return: 300000 restored, 200000 held."""
    rest = [{"share_bps": 10_000, "banking_days": 2}]
    pipe = Pipe(profiles({"instant_cap_by_tier.unknown": 300_000, "hold.REVERSIBLE.rest": rest}))
    pipe.open(600_000, principal=550_000).repay(500_000, rail="direct_debit")
    return pipe


def test_r07_a_return_voids_what_is_held_and_reverses_what_is_restored() -> None:
    pipe = returned_in_part()
    assert pipe.account.available_minor == 350_000
    reversal = only(pipe.give_back(500_000, rail="direct_debit"), RestorationReversed)
    assert (reversal.from_hold_minor, reversal.from_available_minor) == (200_000, 300_000)
    assert reversal.available_raw_minor == 50_000
    assert pipe.account.available_minor == 50_000
    assert pipe.account.used_debt_minor == pipe.debt.principal_minor == 550_000
    kinds = {journal.kind: journal.available_minor for journal in pipe.account.journals[-2:]}
    assert kinds == {"REVERSE": -300_000, "VOID": 0}


def test_r07_a_voided_hold_does_not_come_back_when_its_date_comes() -> None:
    pipe = returned_in_part()
    pipe.give_back(500_000, rail="direct_debit")
    assert not pipe.pass_until(china("2026-12-31"))
    assert pipe.account.available_minor == 50_000


def test_r08_e08_a_return_after_spending_leaves_available_below_zero_shown_as_zero() -> None:
    pipe = Pipe().open(300_000, principal=280_000)
    pipe.repay(250_000)
    assert pipe.account.available_minor == 270_000
    pipe.buy(190_000, ref="p2")
    assert pipe.account.available_minor == 80_000
    facts = pipe.give_back(250_000, code="R01", now=FRIDAY + timedelta(days=300))
    reversal = only(facts, RestorationReversed)
    assert (reversal.available_raw_minor, reversal.available_credit_minor) == (-170_000, 0)
    assert reversal.zero_reason is Reason.OVER_LIMIT
    assert reversal.return_class is Reason.RETURNED_INSUFFICIENT_FUNDS
    assert only(facts, RepaymentReturned).after_final
    assert pipe.account.used_debt_minor == 470_000


def test_r10_two_references_are_two_repayments_and_a_redelivery_adds_nothing() -> None:
    pipe = Pipe().open(100_000, principal=90_000)
    pipe.repay(10_000, ref="r1")
    pipe.repay(10_000, ref="r2", at=FRIDAY + timedelta(minutes=2))
    assert pipe.account.available_minor == 30_000
    pipe.repay(10_000, ref="r1")
    assert pipe.outcomes[-1] == ("repayment-ingest", "stale")
    assert pipe.account.available_minor == 30_000


def test_r10_a_reference_with_another_amount_is_a_conflict_and_moves_nothing() -> None:
    pipe = Pipe().open(100_000, principal=90_000)
    pipe.repay(10_000)
    facts = pipe.repay(20_000)
    assert only(facts, RepaymentConflicted).differs == ("amount_minor",)
    assert not all_of(facts, RepaymentSettled)
    assert pipe.account.available_minor == 20_000


def test_r11_e24_the_second_of_two_full_repayments_is_credit_balance() -> None:
    pipe = Pipe().open(100_000, principal=50_000)
    pipe.repay(50_000, ref="manual", at=china("2026-11-20", "10:00"), method="manual")
    assert pipe.account.available_minor == 100_000
    facts = pipe.repay(50_000, ref="auto", at=china("2026-11-20", "23:00"))
    assert only(facts, NothingToRestore).reason is Reason.PAID_CREDIT_BALANCE
    assert pipe.account.available_minor == 100_000
    assert pipe.account.credit_balance_minor == pipe.debt.credit_balance_minor == 50_000


def test_r12_a_return_before_its_report_rejects_the_report_and_moves_nothing() -> None:
    pipe = Pipe().open(100_000, principal=50_000)
    pipe.give_back(50_000)
    facts = pipe.repay(50_000)
    assert only(facts, RepaymentRejected).reason is Reason.RETURNED_FIRST
    assert (pipe.account.available_minor, pipe.debt.principal_minor) == (50_000, 50_000)


def test_r12_e13_what_comes_before_its_account_is_parked_and_driven_again() -> None:
    pipe = Pipe()
    pipe.repay(20_000)
    assert pipe.outcomes[-1] == ("settlement", "parked")
    pipe.open(100_000)
    assert pipe.account.credit_balance_minor == 20_000
    assert not pipe.parked


def test_r17_the_end_of_a_hold_releases_and_never_voids() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(500_000, principal=490_000)
    pipe.repay(100_000, rail="direct_debit")
    facts = pipe.pass_until(china("2026-11-24", "09:00"))
    assert pipe.account.journals[-1].kind == "RELEASE"
    assert only(facts, HoldReleased).reason is Reason.RELEASE_TIMER
    assert only(facts, CreditRestored).available_credit_minor == 110_000


def test_r18_a_limit_cut_during_a_hold_explains_the_zero() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(100_000, principal=90_000)
    pipe.repay(20_000, rail="direct_debit")
    assert pipe.account.available_minor == 10_000
    pipe.take(builders.credit_limit_changed(credit_limit_minor=60_000))
    assert pipe.account.available_minor == -30_000
    restored = only(pipe.pass_until(china("2026-11-24", "09:00")), CreditRestored)
    assert (restored.available_raw_minor, restored.available_credit_minor) == (-10_000, 0)
    assert restored.zero_reason is Reason.LIMIT_LOWERED


def test_r22_a_split_collection_restores_each_part_as_it_succeeds() -> None:
    pipe = Pipe().open(50_000, principal=50_000)
    wallet = pipe.repay(20_000, ref="w", collection_ref="c1")
    assert only(wallet, CreditRestored).available_credit_minor == 20_000
    pipe.repay(30_000, ref="c", rail="card", collection_ref="c1", status="pending")
    assert pipe.account.available_minor == 20_000
    card = pipe.repay(30_000, ref="c", rail="card", collection_ref="c1", at=FRIDAY + timedelta(hours=1))
    assert only(card, CreditRestored).amount_minor == 30_000
    assert pipe.account.available_minor == 50_000


def test_r22_a_rejected_second_part_leaves_the_first_restored() -> None:
    pipe = Pipe().open(50_000, principal=50_000)
    pipe.repay(20_000, ref="w", collection_ref="c1")
    failed = builders.repayment_failed(external_ref="c", amount_minor=30_000, rail="card")
    assert only(pipe.take(failed), RepaymentRejected).reason is Reason.REPORTED_FAILED
    assert pipe.account.available_minor == 20_000


@pytest.mark.parametrize(
    ("why", "cause", "reason"),
    [
        ("dispute", "account_standing.frozen", Reason.ACCOUNT_FROZEN),
        ("risk_review", "risk_observation.manual_review", Reason.ACCOUNT_FROZEN),
        ("overdue", "account_standing.frozen", Reason.ACCOUNT_OVERDUE),
        ("overdue_elsewhere", "account_standing.overdue_elsewhere", Reason.ACCOUNT_OVERDUE),
    ],
)
def test_r23_a_repayment_on_a_frozen_account_is_parked_with_the_cause_of_the_freeze(
    why: str, cause: str, reason: Reason
) -> None:
    pipe = Pipe().open(200_000, principal=120_000)
    pipe.status("frozen", why)
    parked = only(pipe.repay(30_000), RestorationParked)
    assert (parked.amount_minor, parked.cause, parked.reason) == (30_000, cause, reason)
    assert parked.record.available_credit_minor == 0
    assert parked.record.zero_reason is reason
    assert pipe.account.used_debt_minor == pipe.debt.principal_minor == 90_000
    assert (pipe.account.pending_minor, pipe.account.shown(spendable=False)) == (30_000, 0)


def test_r23_a_thaw_restores_with_a_new_promise_and_the_cause_of_the_freeze() -> None:
    pipe = Pipe().open(200_000, principal=120_000)
    pipe.status("frozen", "risk_review")
    pipe.repay(30_000)
    facts = pipe.status("active", "reviewed", now=FRIDAY + timedelta(days=1))
    restored, promise = only(facts, CreditRestored), only(facts, PromiseMade)
    assert (restored.amount_minor, restored.available_credit_minor) == (30_000, 110_000)
    assert restored.reason is Reason.ACCOUNT_ACTIVE_AGAIN
    assert restored.cause == "risk_observation.manual_review"
    assert promise.promised_by == restored.promised_by == pipe.now + timedelta(seconds=60)
    assert not all_of(facts, HoldReleased)


def test_r23_a_repayment_on_a_closed_account_lapses_and_stays_pending() -> None:
    pipe = Pipe().open(200_000, principal=120_000)
    pipe.status("closed", "customer_left")
    nothing = only(pipe.repay(30_000), NothingToRestore)
    assert nothing.reason is Reason.ACCOUNT_CLOSED
    assert nothing.record.zero_reason is Reason.ACCOUNT_CLOSED
    assert pipe.account.journals[-1].kind == "SETTLE"
    assert pipe.account.pending_minor == pipe.repayment("r1").part("lapsed") == 30_000
    assert pipe.debt.principal_minor == 90_000


def test_r26_a_currency_other_than_the_accounts_is_rejected() -> None:
    pipe = Pipe().open(200_000, principal=120_000)
    facts = pipe.repay(30_000, currency="USD")
    assert only(facts, RepaymentRejected).reason is Reason.CURRENCY_MISMATCH
    assert (pipe.account.available_minor, pipe.debt.principal_minor) == (80_000, 120_000)
