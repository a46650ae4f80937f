"""R4: billing reads the credited date off the wire; a hold costs the customer no interest and no fee."""

from datetime import date, timedelta

from schemas.restoration import CreditRestored
from schemas.settlement import RepaymentReturned, RepaymentSettled
from services.billing_simulator.receivable import Receivable, authorises
from services.runtime.codec import encode
from tests.unit.given import ALL_HELD, Pipe, all_of, china, only, profiles

TODAY = date(2026, 11, 20)
REPAID = china("2026-11-20", "23:10")
DEBT = Receivable(owed_minor=490_000, due_minor=100_000, due_on=TODAY, daily_rate_ppm=500)


def repaid_at_2310() -> Pipe:
    """Return R1's account with its repayment of 100000 at 23:10, held over three days."""
    pipe = Pipe(profiles(ALL_HELD)).open(500_000, principal=490_000)
    pipe.repay(100_000, rail="direct_debit", at=REPAID)
    return pipe


def as_read(event: RepaymentSettled | RepaymentReturned) -> RepaymentSettled | RepaymentReturned:
    """Return an event as billing reads it: from the bytes."""
    return type(event).model_validate_json(encode(event).payload)


def test_r04_interest_is_on_390000_from_the_day_of_the_repayment_and_not_from_the_restoration() -> None:
    pipe = repaid_at_2310()
    settled = as_read(only(pipe.events, RepaymentSettled))
    assert isinstance(settled, RepaymentSettled)
    assert settled.credited_on == TODAY
    billing = DEBT.follow(settled)
    days = [TODAY + timedelta(days=n) for n in range(3)]
    assert [billing.debt_minor(day) for day in days] == [390_000] * 3
    assert [billing.interest_minor(day) for day in days] == [195] * 3
    restored = only(pipe.pass_until(china("2026-12-01")), CreditRestored)
    assert restored.restored_at - REPAID > timedelta(days=3)
    wrong = [DEBT.interest_minor(day) for day in days]
    assert wrong == [245] * 3
    assert sum(wrong) - sum(billing.interest_minor(day) for day in days) == 150, "what the wrong date overcharges"


def test_r04_a_repayment_of_the_due_day_is_in_time_however_long_its_credit_is_held() -> None:
    billing = DEBT.follow(as_read(only(repaid_at_2310().events, RepaymentSettled)))
    tomorrow = TODAY + timedelta(days=1)
    assert DEBT.late(tomorrow)
    assert not billing.late(tomorrow)
    assert not DEBT.late(TODAY), "the day is not over"


def test_r04_a_purchase_during_the_hold_is_decided_on_what_is_available_and_has_no_over_limit_fee() -> None:
    pipe = repaid_at_2310()
    assert pipe.account.shown(spendable=False) == 10_000
    assert not authorises(30_000, 10_000)
    pipe.pass_until(china("2026-12-01"))
    assert authorises(30_000, pipe.account.shown(spendable=False))
    assert pipe.account.shown(spendable=False) == 110_000


def test_r04_a_returned_repayment_never_counted() -> None:
    pipe = repaid_at_2310()
    billing = DEBT.follow(as_read(only(pipe.events, RepaymentSettled)))
    pipe.give_back(100_000, rail="direct_debit", now=REPAID + timedelta(days=1))
    billing = billing.follow(as_read(only(pipe.events, RepaymentReturned)))
    assert billing == DEBT
    assert billing.late(TODAY + timedelta(days=1))
    assert not all_of(pipe.events, CreditRestored)
