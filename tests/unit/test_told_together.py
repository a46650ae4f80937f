"""R23: what one thaw or closing does to several repayments is one text; each of them keeps its own facts."""

from datetime import timedelta
from typing import Any

import pytest

from schemas.account import Language
from schemas.event import Event
from schemas.ids import RepaymentId
from schemas.notification import NotificationDelivered, NotificationRequested, NotificationSuppressed
from schemas.reasons import Reason
from schemas.restoration import (
    TOGETHER_MAX,
    CreditRestored,
    DecisionRecord,
    HeldPart,
    HeldSum,
    HoldPlaced,
    NothingToRestore,
    RestorationReversed,
    ToldRecord,
)
from services.decision import Decision
from services.lag_monitor.model import Tally
from services.limit_release import domain as limit_release
from services.limit_release.facts import Shared
from services.limit_release.model import Account as Books
from services.limit_release.model import Repayment, State
from services.metrics.catalogue import NOTIFICATION_LAG, NOTIFICATIONS
from services.notifier.domain import Account, Attempted, Channels, Notification, Result, decide
from services.policy import Profiles
from services.wording import agent_text, audit, customer_text
from services.wording.catalogue import CATALOGUES
from tests import builders
from tests.unit.given import ALL_HELD, FRIDAY, Pipe, all_of, china, moment, only, profiles, rid
from tests.unit.test_lag_ledger import observed
from tests.unit.test_lag_promises import verdicts

ZONE = "Asia/Shanghai"
FIRST, SECOND = sorted((rid("r1"), rid("r2")))
"""Limit-release goes through repayments in the order of their ids, and the first tells."""
AMOUNTS = {rid("r1"): 30_000, rid("r2"): 20_000}
ONE_TEXT: dict[Language, str] = {
    "en": (
        "From 2 of your repayments, CN¥500.00 of credit is back; available now: CN¥1,300.00. "
        "Another CN¥800.00 is usable because your account is active again."
    ),
    "zh-CN": "您有 2 笔还款现已恢复额度共 ¥500.00，当前可用额度 ¥1,300.00。另有 ¥800.00 因账户恢复正常而可以使用。",
}


def frozen(policy: Profiles | None = None, *, language: Language = "en", **changes: Any) -> Pipe:
    """Freeze an account of 200000 with a debt of 120000, and repay 30000 and 20000 (R23)."""
    pipe = Pipe(policy or profiles())
    pipe.take(builders.account_opened(credit_limit_minor=200_000, language=language))
    pipe.buy(120_000, ref="opening")
    pipe.status("frozen")
    pipe.repay(30_000, ref="r1", **changes)
    pipe.repay(20_000, ref="r2", **changes)
    pipe.deliver(pipe.now)
    return pipe


def records(events: list[Event]) -> list[DecisionRecord]:
    return [fact.record for fact in all_of(events, CreditRestored)]


def sent(pipe: Pipe, events: list[Event]) -> list[Notification]:
    """Return the messages asked for in ``events`` that go out, not those told with another."""
    asked = {fact.notification_id for fact in all_of(events, NotificationRequested)}
    return [each for at, each in pipe.told.notifications.items() if at in asked and each.told_by is None]


def test_r23_a_thaw_of_30000_and_20000_says_50000_and_130000_available_in_every_record() -> None:
    facts = all_of(frozen().status("active"), CreditRestored)
    assert [(fact.repayment_id, fact.amount_minor) for fact in facts] == [(at, AMOUNTS[at]) for at in (FIRST, SECOND)]
    for fact in facts:
        together = fact.record.together
        assert together is not None
        assert (together.repayments, together.restored_minor, together.held_sums) == (2, 50_000, ())
        assert (fact.available_credit_minor, fact.available_raw_minor, fact.zero_reason) == (130_000, 130_000, None)
        assert (fact.record.available_before_minor, fact.record.available_credit_minor) == (0, 130_000)
        assert fact.record.other_minor == 50_000 - fact.amount_minor, "what came back of the other"
    first, second = (fact.record.together for fact in facts)
    assert first is not None
    assert second is not None
    assert (first.told_with, first.tells_of) == (None, (ToldRecord(SECOND, 2),))
    assert (second.told_with, second.tells_of) == (FIRST, ())


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_r23_a_thaw_of_two_repayments_is_one_text_with_the_total_and_what_is_available(language: Language) -> None:
    pipe = frozen(language=language)
    (message,) = sent(pipe, pipe.status("active"))
    assert (message.text, message.template, message.repayment_id) == (ONE_TEXT[language], "restored", FIRST)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            "en",
            "{own} of credit is back, and {other} from other repayments; available now: CN¥1,300.00. Another CN¥800.00",
        ),
        ("zh-CN", "现已恢复额度 {own}，其他还款同时恢复额度 {other}，当前可用额度 ¥1,300.00。另有 ¥800.00"),
    ],
)
def test_r23_asked_about_one_of_them_its_own_amount_stands_beside_the_others(language: Language, said: str) -> None:
    sign = "CN¥" if language == "en" else "¥"
    for record in records(frozen().status("active")):
        own, other = (f"{sign}{amount // 100}.00" for amount in (record.restored_minor, 50_000 - record.restored_minor))
        assert said.format(own=own, other=other) in customer_text(record, language=language, timezone=ZONE)
        agent = agent_text(record, language=language, timezone=ZONE)
        assert CATALOGUES[language].agent.together.format(count=2, restored=f"{sign}500.00") in agent


def test_r23_the_other_is_requested_and_suppressed_when_the_one_text_arrives() -> None:
    pipe = frozen()
    facts = pipe.status("active")
    asked = all_of(facts, NotificationRequested)
    assert [(fact.repayment_id, fact.record_version, fact.template) for fact in asked] == [
        (FIRST, 2, "restored"),
        (SECOND, 2, "restored"),
    ]
    assert not all_of(facts, NotificationSuppressed), "nobody was told yet"
    arrived = pipe.deliver(pipe.now)
    assert only(arrived, NotificationDelivered).notification_id == asked[0].notification_id
    suppressed = only(arrived, NotificationSuppressed)
    assert (suppressed.notification_id, suppressed.repayment_id) == (asked[1].notification_id, SECOND)
    assert (suppressed.reason, suppressed.caused_by) == ("told_together", asked[1].caused_by)


def test_r23_the_promises_of_both_are_met_by_the_one_telling_and_counted_as_what_they_are() -> None:
    pipe = frozen()
    pipe.now += timedelta(minutes=5)
    pipe.status("active")
    pipe.now += timedelta(seconds=7)
    pipe.deliver(pipe.now)
    journeys = observed(pipe.events)
    for ref in ("r1", "r2"):
        assert verdicts(pipe.events, ref)["notify_60s", 1] == "met"
        (part,) = journeys[rid(ref)].parts.values()
        assert (part.restored_at, part.told_at) == (pipe.now - timedelta(seconds=7), pipe.now)
        assert Tally(NOTIFICATION_LAG.name, ("log",), 7_000) in journeys[rid(ref)].tallies
    assert Tally(NOTIFICATIONS.name, ("log", "restored", "delivered")) in journeys[FIRST].tallies
    assert Tally(NOTIFICATIONS.name, ("log", "restored", "told_together")) in journeys[SECOND].tallies
    assert Tally(NOTIFICATIONS.name, ("log", "restored", "delivered")) not in journeys[SECOND].tallies


@pytest.mark.parametrize("ref", ["r1", "r2"])
def test_l10_either_of_them_taken_back_later_is_corrected_by_a_text_of_its_own(ref: str) -> None:
    pipe = frozen()
    pipe.status("active")
    pipe.deliver(pipe.now)
    amount = AMOUNTS[rid(ref)]
    facts = pipe.give_back(amount, ref=ref)
    assert only(facts, RestorationReversed).record.together is None
    (message,) = sent(pipe, facts)
    left, whole = f"CN¥{(130_000 - amount) // 100:,}.00", f"CN¥{amount // 100}.00"
    assert (message.template, message.repayment_id) == ("reversed", rid(ref))
    assert message.text.startswith(f"Correction: your repayment of {whole} on ")
    assert f"{whole} of credit that had come back is taken back; available now: {left}." in message.text


def test_r23_what_two_facts_of_one_batch_restore_is_not_one_text() -> None:
    pipe = frozen()
    pipe.status("active")
    pipe.status("frozen")
    pipe.repay(10_000, ref="r3")
    (again,) = sent(pipe, pipe.status("active", "reviewed"))
    assert (again.repayment_id, again.text.count("repayments")) == (rid("r3"), 0)
    assert len({each.caused_by for each in pipe.told.notifications.values() if each.template == "restored"}) == 2


def test_r23_one_repayment_of_two_parts_is_told_as_ever() -> None:
    pipe = Pipe().open(200_000, principal=120_000)
    pipe.status("frozen")
    pipe.repay(110_000, ref="r1", rail="direct_debit")
    for record in records(pipe.status("active", now=china("2026-12-04"))):
        assert (record.together, record.restored_minor) == (None, 110_000)


def test_r23_dates_still_ahead_are_told_in_the_one_text_by_date() -> None:
    cap = {"instant_cap_by_tier.unknown": 30_000, "hold.REVERSIBLE.rest": [{"share_bps": 10_000, "banking_days": 2}]}
    pipe = Pipe(profiles(cap))
    pipe.take(builders.account_opened(credit_limit_minor=200_000, language="en"))
    pipe.buy(120_000, ref="opening")
    pipe.status("frozen")
    pipe.repay(40_000, ref="r1", rail="direct_debit")
    pipe.repay(20_000, ref="r2")
    facts = pipe.status("active")
    together = records(facts)[0].together
    assert together is not None
    assert (together.restored_minor, together.held_sums) == (50_000, (HeldSum(10_000, china("2026-11-24", "09:00")),))
    (message,) = sent(pipe, facts)
    assert "CN¥500.00 of credit is back; available now: CN¥1,300.00." in message.text
    assert message.text.endswith("CN¥100.00 comes back on Tue 24 Nov at 09:00.")


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (
            "en",
            (
                "2 of your repayments give no more credit back; available now: CN¥0.00. "
                "Why: the account is closed, and the repayment lowers what is owed."
            ),
        ),
        ("zh-CN", "您有 2 笔还款不再恢复额度，当前可用额度 ¥0.00。原因：账户已关闭，还款用于减少欠款。"),
    ],
)
def test_r23_a_closing_under_which_two_repayments_lapse_is_one_text(language: Language, text: str) -> None:
    pipe = frozen(profiles(ALL_HELD), language=language, rail="direct_debit")
    facts = pipe.status("closed")
    assert [fact.reason for fact in all_of(facts, NothingToRestore)] == [Reason.ACCOUNT_CLOSED] * 2
    (message,) = sent(pipe, facts)
    assert (message.template, message.text) == ("nothing_to_restore", text)


def test_r23_more_than_one_message_can_name_are_told_by_several_each_with_its_own_total() -> None:
    pipe = Pipe().open(2_000_000, principal=1_500_000)
    pipe.status("frozen")
    for n in range(TOGETHER_MAX + 2):
        pipe.repay(1_000, ref=f"r{n}")
    facts = pipe.status("active")
    totals = [known.restored_minor for record in records(facts) if (known := record.together) and known.tells_of]
    assert totals == [TOGETHER_MAX * 1_000, 2_000]
    assert len(sent(pipe, facts)) == 2
    last = records(facts)[-1]
    assert (last.available_before_minor, last.available_credit_minor) == (600_000, 602_000)
    assert len({fact.notification_id for fact in all_of(facts, NotificationRequested)}) == TOGETHER_MAX + 2


def test_the_audit_names_whom_a_record_is_told_with_and_whom_it_tells_of() -> None:
    first, second = (audit(record)["together"] for record in records(frozen().status("active")))
    told = {"repayments": 2, "restored_minor": 50_000, "held_sums": []}
    assert first == {**told, "told_with": None, "tells_of": [{"repayment_id": SECOND, "version": 2}]}
    assert second == {**told, "told_with": FIRST, "tells_of": []}


def test_a_record_of_before_this_field_is_read() -> None:
    old = builders.decision_record().model_dump_json().replace('"together":null,', "")
    assert "together" not in old
    assert DecisionRecord.model_validate_json(old) == builders.decision_record()


BOTH = Channels(("log", "webhook"))


def thawed() -> list[CreditRestored]:
    return all_of(frozen().status("active"), CreditRestored)


def told(channels: Channels, *events: Event, state: Account | None = None) -> Decision[Account]:
    decision = Decision(state or Account(builders.ACCOUNT, "en", ZONE))
    facts: list[Event] = []
    for event in events:
        decision = decide(channels, decision.state, event, moment(FRIDAY))
        facts += decision.events
    return Decision(decision.state, tuple(facts), outcome=decision.outcome, reason=decision.reason)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 0, 1, 0)])
def test_whichever_is_read_first_each_is_asked_for_once_a_channel(order: tuple[int, ...]) -> None:
    facts = thawed()
    decision = told(BOTH, *(facts[n] for n in order))
    assert [(fact.repayment_id, fact.channel) for fact in all_of(decision.events, NotificationRequested)] == [
        (FIRST, "log"),
        (SECOND, "log"),
        (FIRST, "webhook"),
        (SECOND, "webhook"),
    ]
    with_another = told(BOTH, facts[1])
    assert (with_another.events, with_another.outcome, with_another.reason) == ((), "stale", "told_together")


@pytest.mark.parametrize(
    ("result", "types"),
    [
        ("delivered", ["NotificationDelivered", "NotificationSuppressed"]),
        ("refused", ["NotificationUndeliverable", "NotificationUndeliverable"]),
        ("gone", ["NotificationSuppressed", "NotificationSuppressed"]),
        ("retry", []),
    ],
)
def test_the_other_ends_as_the_message_that_tells_of_it_does(result: Result, types: list[str]) -> None:
    state = told(BOTH, *thawed()).state
    message = next(each for each in state.notifications.values() if each.told_by is None and each.channel == "log")
    after = decide(BOTH, state, Attempted(builders.ACCOUNT, message.notification_id, result), moment(FRIDAY))
    assert [type(fact).__name__ for fact in after.events] == types
    assert [getattr(fact, "repayment_id", None) for fact in after.events] == [FIRST, SECOND][: len(types)]
    mine, other = (
        next(each for each in after.state.notifications.values() if (each.repayment_id, each.channel) == (at, "log"))
        for at in (FIRST, SECOND)
    )
    assert (other.state, other.ended_at, other.attempts) == (mine.state, mine.ended_at, 1)
    assert (other.next_attempt_at, other.text) == (mine.next_attempt_at, mine.text)
    untouched = [each for each in after.state.notifications.values() if each.channel == "webhook"]
    assert [(each.state, each.attempts) for each in untouched] == [("requested", 0)] * 2


def test_where_a_channel_is_gone_neither_is_sent_and_both_say_so() -> None:
    state = Account(builders.ACCOUNT, "en", ZONE, disabled=frozenset({"log"}))
    suppressed = all_of(told(Channels(("log",)), *thawed(), state=state).events, NotificationSuppressed)
    assert [(fact.repayment_id, fact.reason) for fact in suppressed] == [
        (FIRST, "endpoint_disabled"),
        (SECOND, "endpoint_disabled"),
    ]


def test_what_a_thaw_tells_does_not_depend_on_how_often_it_was_decided() -> None:
    pipe = frozen()
    event = builders.account_status_changed(status="active", occurred_at=FRIDAY + timedelta(hours=1))
    once = limit_release.decide(pipe.policy, pipe.credit, event, moment(FRIDAY + timedelta(hours=1)))
    assert isinstance(once.state, State)
    again = limit_release.decide(pipe.policy, pipe.credit, event, moment(FRIDAY + timedelta(hours=1)))
    assert once == again
    assert len({fact.event_id for fact in once.events}) == len(once.events)


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_r23_a_thaw_that_only_holds_again_says_what_the_freeze_hid_and_no_credit_balance(language: Language) -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(600_000, principal=550_000)
    pipe.status("frozen")
    pipe.repay(10_000, rail="direct_debit")
    (held,) = all_of(pipe.status("active"), HoldPlaced)
    texts, freed = CATALOGUES[language].customer, {"en": "CN¥500.00", "zh-CN": "¥500.00"}[language]
    text = customer_text(held.record, language=language, timezone=ZONE)
    assert texts.active_again.format(other=freed) in text
    assert texts.balance_usable.format(other=freed) not in text


def test_what_comes_back_at_one_instant_is_one_sum_and_only_the_newest_records_count() -> None:
    def repayment(name: str, *held: int) -> Repayment:
        """Return one with a record a figure, each of which holds so much until Friday."""
        records = [builders.decision_record(version=n, held=(HeldPart(1, of, FRIDAY),)) for n, of in enumerate(held, 1)]
        return Repayment(name, records=tuple(records))

    state = State(Books(builders.ACCOUNT), {"r1": repayment("r1", 900, 800, 30), "r2": repayment("r2", 4)})
    together = Shared.of(state, ("r1", "r2")).together
    assert together.held_sums == (HeldSum(34, FRIDAY),)
    assert together.tells_of == (ToldRecord(RepaymentId("r2"), 1),)


def test_the_message_kept_of_another_names_the_record_it_is_told_by() -> None:
    first, second = thawed()
    assert first.record is not None
    together = first.record.together
    assert together is not None
    later = tuple(each._replace(version=5) for each in together.tells_of)
    record = first.record.model_copy(update={"together": together.model_copy(update={"tells_of": later})})
    state = told(Channels(("log",)), first.model_copy(update={"record": record}), second).state
    assert {each.repayment_id: each.record_version for each in state.notifications.values()} == {FIRST: 2, SECOND: 5}
