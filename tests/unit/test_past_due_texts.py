"""What is overdue is said beside the repayment by its amount, and that nothing is only where the books say so."""

from datetime import timedelta

import pytest

from schemas.account import Language
from schemas.reasons import Reason
from schemas.restoration import CreditRestored, HoldPlaced, NothingToRestore, RestorationDelayed, RestorationParked
from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentSettled
from services.decision import TimerFired
from services.limit_release import domain as limit_release
from services.wording import agent_text, audit, customer_text
from tests import builders
from tests.unit.given import FRIDAY, Pipe, china, moment, only

ZONE = "Asia/Shanghai"
NONE = {"en": "nothing is overdue", "zh-CN": "不会产生逾期"}
STILL = {"en": "After it CN¥200.00 was still overdue.", "zh-CN": "还款后仍有 ¥200.00 逾期未还。"}


def late(owed: int) -> Pipe:
    """Open an account that owes ``owed``, all of it due by the 15th of November and late since."""
    pipe = Pipe().open(500_000)
    pipe.take(builders.purchase_posted(amount_minor=owed, occurred_at=china("2026-11-01")))
    due = {"due_minor": owed, "minimum_minor": owed, "due_on": china("2026-11-15").date()}
    pipe.take(builders.statement_issued(**due, occurred_at=china("2026-11-02")))
    pipe.pass_until(FRIDAY - timedelta(hours=1))
    return pipe


@pytest.mark.parametrize("language", ["en", "zh-CN"])
@pytest.mark.parametrize(("owed", "left"), [(120_000, 20_000), (100_000, 0), (100_001, 1)])
def test_r19_what_is_still_past_due_after_a_repayment_is_carried_to_its_texts(
    owed: int, left: int, language: Language
) -> None:
    facts = late(owed).repay(100_000)
    assert only(facts, RepaymentSettled).past_due_minor == left
    assert only(facts, RiskAssessed).past_due_minor == left
    record = only(facts, CreditRestored).record
    assert record.past_due_minor == audit(record)["past_due_minor"] == left
    text = customer_text(record, language=language, timezone=ZONE)
    assert (NONE[language] in text) == (left == 0)
    assert (STILL[language] in text) == (left == 20_000)
    label = {"en": "Past due right after it: CN¥", "zh-CN": "入账后仍逾期：¥"}[language]
    assert f"{label}{left / 100:.2f}" in agent_text(record, language=language, timezone=ZONE)


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_a_repayment_that_pays_charges_alone_and_one_of_a_frozen_account_say_what_is_overdue(
    language: Language,
) -> None:
    pipe = late(20_000)
    pipe.take(builders.charges_accrued(penalty_minor=1_000, fee_minor=0, interest_minor=0, occurred_at=pipe.now))
    pipe.status("frozen", "overdue")
    facts = pipe.repay(10_000)
    record = only(facts, RestorationParked).record
    said = {"en": "After it CN¥100.00 was still overdue.", "zh-CN": "还款后仍有 ¥100.00 逾期未还。"}[language]
    assert said in customer_text(record, language=language, timezone=ZONE)
    charged = Pipe().open(500_000, principal=20_000, fee=1_000)
    nothing = only(charged.repay(500), NothingToRestore).record
    assert NONE[language] in customer_text(nothing, language=language, timezone=ZONE)


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_what_is_not_known_is_not_said(language: Language) -> None:
    old = builders.decision_record(past_due_minor=None)
    parked = builders.decision_record(outcome="parked", parked_minor=1, zero_reason=Reason.ACCOUNT_FROZEN)
    for record in (old, parked):
        assert NONE[language] not in customer_text(record, language=language, timezone=ZONE)
    assert "None" not in agent_text(old, language=language, timezone=ZONE)


def test_only_the_first_record_on_a_verdict_knows_what_was_past_due() -> None:
    pipe = late(300_000)
    facts = pipe.repay(200_000, rail="direct_debit")
    assert only(facts, CreditRestored).record.past_due_minor == 100_000
    again = pipe.take(builders.funding_account_linked(verified=True, occurred_at=pipe.now))
    assert {fact.record.past_due_minor for fact in again if isinstance(fact, HoldPlaced)} == {None}
    released = pipe.pass_until(FRIDAY + timedelta(days=20))
    assert {fact.record.past_due_minor for fact in released if isinstance(fact, CreditRestored)} == {None}


def test_a_decision_that_never_came_says_nothing_of_what_is_overdue() -> None:
    pipe = late(100_000)
    settled = pipe._settled(builders.repayment_received(amount_minor=50_000, repaid_at=FRIDAY, rail="wallet"))
    owed = limit_release.decide(pipe.policy, pipe.credit, settled[0], moment(FRIDAY))
    (timer,) = owed.timers
    fired = TimerFired(builders.ACCOUNT, timer)
    told = limit_release.decide(pipe.policy, owed.state, fired, moment(timer.due_at))
    record = only(told.events, RestorationDelayed).record
    assert record.past_due_minor is None
    assert "overdue" not in customer_text(record, language="en", timezone=ZONE)


@pytest.mark.parametrize("make", [builders.repayment_settled, builders.risk_assessed, builders.credit_restored])
def test_events_from_before_the_field_are_read(make: object) -> None:
    assert callable(make)
    event = make()
    said = event.model_dump_json().replace('"past_due_minor":0,', "").replace(',"past_due_minor":0', "")
    assert "past_due_minor" not in said
    read = type(event).model_validate_json(said)
    assert getattr(read, "record", read).past_due_minor is None
