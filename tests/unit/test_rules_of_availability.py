"""Rules R19 to R21 and E4, E22 on the availability ledger: freezes, cash, refunds."""

from datetime import timedelta

from schemas.account import PurchasePosted
from schemas.reasons import Reason
from schemas.restoration import CreditRestored, RestorationReversed
from schemas.settlement import Part, RepaymentSettled
from services.decision import TimerFired
from services.limit_release.domain import HOLD_DUE, decide
from services.limit_release.model import Account, State
from tests import builders
from tests.unit.given import FRIDAY, Pipe, all_of, moment, only, profiles

TOTAL = profiles({"limit_basis": "TOTAL"})


def cash(amount: int) -> PurchasePosted:
    return builders.purchase_posted(purchase_id="c1", amount_minor=amount, plan="cash", apr_bps=2_500)


def paid_in_cash_first() -> RepaymentSettled:
    """Return R20's repayment of 80000: the minimum of 4000 to purchases, 50000 to cash, 26000 to purchases."""
    parts = (
        Part("due", "principal", "purchase", 4_000),
        Part("due", "principal", "cash", 50_000),
        Part("due", "principal", "purchase", 26_000),
    )
    return builders.repayment_settled(amount_minor=80_000, restorable_minor=80_000, parts=parts, settled_at=FRIDAY)


def test_r20_cash_shown_is_what_its_sub_limit_leaves_and_never_more_than_is_available() -> None:
    state = State(Account(builders.ACCOUNT))
    events = (
        builders.account_opened(credit_limit_minor=210_000),
        builders.credit_limit_changed(credit_limit_minor=210_000, cash_sub_limit_minor=60_000),
        cash(50_000),
        builders.purchase_posted(purchase_id="p1", amount_minor=150_000),
    )
    for event in events:
        state = decide(TOTAL, state, event, moment(FRIDAY)).state
    assert (state.account.available_minor, state.account.cash_shown()) == (10_000, 10_000)
    state = decide(TOTAL, state, paid_in_cash_first(), moment(FRIDAY)).state
    assert (state.account.cash_used_minor, state.account.cash_shown()) == (0, 10_000), "the rest is not restored yet"
    tranche = builders.risk_assessed().tranches[0]._replace(amount_minor=80_000, due_at=FRIDAY)
    verdict = builders.risk_assessed(
        amount_minor=80_000, restorable_minor=80_000, tranches=(tranche,), settled_at=FRIDAY
    )
    decision = decide(TOTAL, state, verdict, moment(FRIDAY + timedelta(seconds=1)))
    account = decision.state.account
    assert only(decision.events, CreditRestored).available_credit_minor == account.available_minor == 90_000
    assert account.cash_shown() == 60_000, "cash + 50000, bounded by its sub-limit"
    back = builders.repayment_returned(
        amount_minor=80_000, restorable_minor=80_000, parts=paid_in_cash_first().parts, reallocated=()
    )
    account = decide(TOTAL, decision.state, back, moment(FRIDAY)).state.account
    assert (account.cash_used_minor, account.cash_shown()) == (50_000, 10_000)


def test_r20_an_account_without_a_cash_sub_limit_shows_none_and_a_limit_change_keeps_one() -> None:
    pipe = Pipe().open(100_000)
    assert pipe.account.cash_shown() is None
    pipe.take(builders.credit_limit_changed(cash_sub_limit_minor=20_000, credit_limit_minor=100_000))
    pipe.take(builders.credit_limit_changed(credit_limit_minor=10_000))
    assert pipe.account.cash_shown() == 10_000
    pipe.status("frozen")
    assert pipe.account.cash_shown() == 0


def test_r21_a_refund_gives_back_what_it_takes_off_the_debt_and_restores_nothing() -> None:
    pipe = Pipe().open(200_000, principal=120_000)
    pipe.repay(30_000)
    before = pipe.account.available_minor
    refund = builders.purchase_refunded(purchase_id="opening", to_debt_minor=90_000, to_payer_minor=30_000)
    facts = pipe.take(refund)
    assert pipe.account.available_minor - before == 90_000
    assert pipe.account.used_debt_minor == 0
    assert not all_of(facts, CreditRestored), "no lag row"


def test_e04_a_returned_hold_is_not_released_by_its_timer() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    timer = next(timer for timer in pipe.waits if timer.kind == HOLD_DUE)
    pipe.give_back(500_000, rail="direct_debit")
    fired = decide(pipe.policy, pipe.credit, TimerFired(builders.ACCOUNT, timer), moment(timer.due_at))
    assert (fired.outcome, fired.state, fired.events) == ("stale", pipe.credit, ())


def test_e01_a_return_told_three_times_takes_back_once() -> None:
    pipe = Pipe().open(300_000, principal=280_000)
    pipe.repay(250_000)
    state, taken = pipe.credit, []
    for n in range(3):
        returned = builders.repayment_returned(
            event_id=f"return-{n}", repayment_id=pipe.repayment("r1").repayment_id, amount_minor=250_000,
            restorable_minor=250_000, reallocated=(),
        )  # fmt: skip
        decision = decide(pipe.policy, state, returned, moment(FRIDAY))
        state = decision.state
        taken += all_of(decision.events, RestorationReversed)
        assert state.account.available_minor == 20_000
    assert len(taken) == 1


def test_r18_the_record_of_a_zero_names_the_limit_and_the_day_it_was_lowered() -> None:
    pipe = Pipe().open(100_000, principal=90_000)
    lowered_at = FRIDAY - timedelta(days=1)
    pipe.take(builders.credit_limit_changed(credit_limit_minor=60_000, occurred_at=lowered_at))
    record = only(pipe.repay(20_000), CreditRestored).record
    assert (record.restored_minor, record.available_credit_minor, record.available_raw_minor) == (20_000, 0, -10_000)
    assert (record.zero_reason, record.credit_limit_minor) == (Reason.LIMIT_LOWERED, 60_000)
    assert record.limit_lowered_at == lowered_at
