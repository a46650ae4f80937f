"""`otb explain`: now, while nothing is decided, and as it was told at an instant (domain 8, L9)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.account import Language
from schemas.reasons import Reason
from services.cli.as_told import as_told, as_told_lines, state_at
from services.cli.explain import For, as_told_at, explanation
from services.cli.journey import Journey, Stretch, Timeline
from services.cli.terminal import Problem
from services.wording import customer_text
from tests import builders

ZONE = "Asia/Shanghai"
FIRST = builders.decision_record()
SECOND = builders.decision_record(
    version=2,
    decided_at=datetime(2026, 11, 23, 2, 0, tzinfo=UTC),
    outcome="reversed",
    restored_minor=0,
    held=(),
    taken_back_minor=100_000,
    available_credit_minor=50_000,
    available_raw_minor=50_000,
    reasons=(Reason.RETURNED_INSUFFICIENT_FUNDS,),
    faster=(),
)
SATURDAY = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)
EMPTY = Journey(
    repayment_id=builders.REPAYMENT,
    account_id=builders.ACCOUNT,
    reference=None,
    settled=None,
    tranches=(),
    records=(),
    told=(),
    shown=(),
    conflicts=(),
    aside=(),
    timelines=(),
    language="en",
    timezone=ZONE,
    status="active",
    now=SATURDAY,
    refused=None,
)
ASIDE = {
    "service": "settlement",
    "set_aside_id": 7,
    "kind": "parked",
    "reason": "ACCOUNT_UNKNOWN",
    "first_seen_at": datetime(2026, 11, 20, 14, 1, tzinfo=UTC),
}


def message(version: int, requested_at: datetime, **changes: Any) -> dict[str, Any]:
    """Return a message as the notifier keeps it, delivered a second after it was asked for."""
    record = {1: FIRST, 2: SECOND}[version]
    return {
        "record_version": version,
        "template": record.outcome,
        "channel": "webhook",
        "language": "en",
        "state": "delivered",
        "attempts": 1,
        "requested_at": requested_at,
        "next_attempt_at": None,
        "ended_at": requested_at + timedelta(seconds=1),
        "text": f"the words of version {version} as they were",
        "told_by": None,
        **changes,
    }


TOLD = (message(1, FIRST.decided_at), message(2, SECOND.decided_at, ended_at=SECOND.decided_at + timedelta(hours=5)))
SHOWN = (
    {
        "record_version": 1,
        "audience": "agent",
        "channel": "otb",
        "language": "zh-CN",
        "text": "what the agent read",
        "shown_at": SATURDAY - timedelta(minutes=1),
    },
)


def told_at(at: datetime, language: Language = "en") -> str:
    return "\n".join(as_told_lines(as_told((FIRST, SECOND), TOLD, SHOWN, at), language, ZONE))


def test_l9_before_the_decision_nothing_was_true_and_nothing_was_told() -> None:
    known = as_told((FIRST, SECOND), TOLD, SHOWN, FIRST.decided_at - timedelta(milliseconds=1))
    assert (known.known, known.told, known.shown, known.untold) == (None, (), (), ())
    assert [record.version for record in known.later] == [1, 2]
    lines = list(as_told_lines(known, "en", ZONE))
    assert lines[1:3] == ["True then: nothing was decided yet", "Told: nothing by then"]


def test_l9_what_was_told_is_printed_in_its_own_words_beside_what_was_true() -> None:
    said = told_at(SATURDAY)
    assert said.startswith("As of Sat 21 Nov 2026, 12:00:00 (Asia/Shanghai)\nTrue then: version 1, decided Fri 20 Nov")
    assert customer_text(FIRST, language="en", timezone=ZONE) in said
    assert "Told: version 1, en, by webhook, requested Fri 20 Nov 2026, 22:00:01; delivered Fri 20 Nov 2026" in said
    assert "the words of version 1 as they were" in said
    assert "the words of version 2" not in said
    assert "Shown when asked, for agent: version 1, zh-CN, Sat 21 Nov 2026, 11:59:00\nwhat the agent read" in said
    assert "Not delivered by then" not in said
    assert said.endswith("Since then: version 2 (reversed), decided Mon 23 Nov 2026, 10:00:00")


def test_l9_a_decision_whose_message_was_under_way_was_true_and_not_told() -> None:
    at = SECOND.decided_at + timedelta(minutes=1)
    known = as_told((FIRST, SECOND), TOLD, SHOWN, at)
    assert known.known == SECOND
    assert known.untold == (SECOND,)
    assert [state_at(row, at) for row in known.told] == ["delivered", "requested"]
    said = told_at(at)
    assert "requested Mon 23 Nov 2026, 10:00:00; not delivered by then" in said
    assert "Not delivered by then: version 2, decided Mon 23 Nov 2026, 10:00:00" in said
    later = as_told((FIRST, SECOND), TOLD, SHOWN, at + timedelta(hours=5))
    assert (later.untold, later.later) == ((), ())


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", "22:00:02; in one message about several repayments"), ("zh-CN", "；与其他还款在同一条消息中告知")],
)
def test_l9_what_another_repayments_message_told_was_told_when_that_arrived(language: Language, said: str) -> None:
    known = as_told((FIRST,), (message(1, FIRST.decided_at, told_by="another"),), (), SATURDAY)
    assert (known.untold, [state_at(row, SATURDAY) for row in known.told]) == ((), ["delivered"])
    assert said in "\n".join(as_told_lines(known, language, ZONE))


def test_l9_a_message_given_up_was_never_told() -> None:
    given_up = message(1, FIRST.decided_at, state="undeliverable")
    known = as_told((FIRST,), (given_up,), (), SATURDAY)
    assert known.untold == (FIRST,)
    assert "; given up Fri 20 Nov 2026, 22:00:02" in "\n".join(as_told_lines(known, "en", ZONE))


def test_l9_the_same_is_said_in_chinese() -> None:
    said = told_at(SATURDAY, "zh-CN")
    assert said.startswith(
        "截至 2026年11月21日（周六）12:00:00（Asia/Shanghai）\n当时的事实：版本 1，决定于 2026年11月20日"
    )
    assert customer_text(FIRST, language="zh-CN", timezone=ZONE) in said
    assert "the words of version 1 as they were" in said


def test_l9_programs_read_the_state_of_then() -> None:
    described = as_told((FIRST, SECOND), TOLD, SHOWN, SECOND.decided_at).described()
    assert [row["state"] for row in described["told"]] == ["delivered", "requested"]
    assert described["told"][1]["ended_at"] is None
    assert (described["not_delivered_versions"], described["later_versions"]) == ([2], [])


def test_an_instant_without_offset_is_of_the_accounts_zone() -> None:
    found = replace(EMPTY, records=(FIRST,), told=TOLD[:1])
    assert as_told_at(found, "2026-11-21T12:00").at == SATURDAY
    assert as_told_at(found, "2026-11-21T04:00Z").at == SATURDAY
    with pytest.raises(Problem, match="--as-of takes an instant"):
        as_told_at(found, "yesterday")


def test_case_a_asked_again_is_answered_with_the_same_text_the_time_left_and_a_person() -> None:
    (text,) = explanation(replace(EMPTY, records=(FIRST,)), "en")
    assert text.startswith(customer_text(FIRST, language="en", timezone=ZONE))
    assert text.endswith("in 2 days and 21 hours. You can also ask to speak to a person about it.")


def test_the_agent_reads_where_the_time_went() -> None:
    end = builders.REPAID_AT + timedelta(seconds=2)
    first = Stretch("report", "external.upstream_report", builders.REPAID_AT + timedelta(milliseconds=1_500), 1_500)
    line = Timeline(1, builders.REPAID_AT, (first, Stretch("release", "system_delay.processing", end, 500)), end)
    said = list(explanation(replace(EMPTY, records=(FIRST,), timelines=(line,)), "en", For.AGENT))
    assert "HOLD_RAIL_REVERSIBLE" in said[0]
    assert said[1:] == [
        "Timeline of part 1: 2 s from repaid to restored",
        "- Report, Waiting for the report from upstream: 1.5 s, until Fri 20 Nov 2026, 22:00:01",
        "- Release, Being processed by a service: 500 ms, until Fri 20 Nov 2026, 22:00:02",
    ]


WAITING = Timeline(
    None, builders.REPAID_AT, (Stretch("settlement", "system_delay.processing", SATURDAY, 50_400_000),), SATURDAY
)


@pytest.mark.parametrize(
    ("found", "customer", "agent"),
    [
        (EMPTY, "nothing more is known of it yet.", "no service has told anything"),
        (replace(EMPTY, aside=(ASIDE,)), "reached us on Fri 20 Nov at 22:01.", "waits in settlement since"),
        (
            replace(EMPTY, aside=({**ASIDE, "kind": "dead_letter", "reason": "not_json"},)),
            "in a form we could not read.",
            "`otb dlq show settlement:7`",
        ),
        (
            replace(EMPTY, settled={"status": "rejected"}, refused="RETURNED_FIRST"),
            "Why: the bank took this repayment back before it counted. You can repay again in another way.",
            "Rejected before it settled: RETURNED_FIRST.",
        ),
        (replace(EMPTY, settled={"status": "returned_first"}), "took this repayment back", "RETURNED_FIRST"),
        (
            replace(EMPTY, settled={"status": "waiting"}, timelines=(WAITING,)),
            "has not confirmed this repayment yet; it has waited 14 h 0 min so far.",
            "Waiting for the rail for 14 h 0 min (Waiting for the rail to confirm).",
        ),
        (
            replace(EMPTY, settled={"status": "settled"}, timelines=(WAITING,)),
            "on its way through our steps, 14 h 0 min so far.",
            "in the stage “Settlement” (Being processed by a service).",
        ),
        (
            replace(EMPTY, conflicts=({"differs": ["rail", "amount_minor"]},)),
            "two different sets of details",
            "differs (amount_minor, rail): parked for a person.",
        ),
    ],
)
def test_without_a_decision_it_says_where_the_repayment_is(found: Journey, customer: str, agent: str) -> None:
    said = "\n".join(explanation(found, "en"))
    assert customer in said
    assert agent not in said
    exact = "\n".join(explanation(found, "en", For.AGENT))
    assert customer in exact
    assert agent in exact
    assert "\n".join(explanation(found, "zh-CN")) != said


def test_what_a_person_answered_is_shown_and_what_is_owed_only_to_those_who_owe_it() -> None:
    case = {"case_id": "c" * 32, "kind": "complaint", "due_at": SATURDAY + timedelta(hours=1), "outcome": None}
    owed: dict[str, Any] = {**case, "state": "in_review", "answer": ""}
    late = {**owed, "state": "escalated", "due_at": SATURDAY - timedelta(hours=1)}
    answered = {**case, "state": "resolved", "outcome": "explained", "answer": "We looked at it again."}
    found = replace(EMPTY, records=(FIRST,), cases=(owed, late, answered))
    assert list(explanation(found, "en"))[1:] == ["We looked at it again."]
    assert list(explanation(found, "en", For.AGENT))[1:] == [
        f"case {'c' * 12} complaint in_review, owed by Sat 21 Nov at 13:00",
        f"case {'c' * 12} complaint escalated, owed by Sat 21 Nov at 11:00, OVERDUE",
        f"case {'c' * 12} complaint resolved, explained: We looked at it again.",
    ]
