"""Much money takes two people who say the same, and nobody does more than so much a day (reliability 6)."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.ids import RepaymentId
from schemas.review import HoldReleaseApproved
from services.cli.system import ROOT
from services.console.domain import Command, ExtendHold, MoveCase, ReleaseHold, TakeFeedback, decide
from services.console.model import (
    ACTS_A_DAY_MAX,
    MOVES_MONEY,
    SECOND_PERSON_HOURS,
    SECOND_PERSON_MINOR,
    CaseOutcome,
    Desk,
)
from services.decision import Decision
from tests import builders
from tests.unit.given import moment

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
PLACE = (builders.REPAYMENT, 2)
MUCH = Desk(builders.ACCOUNT, stakes={PLACE: SECOND_PERSON_MINOR})
LONG = timedelta(hours=SECOND_PERSON_HOURS)


def decided(state: Desk, command: Command, now: datetime = NOW) -> Decision[Desk]:
    return decide(None, state, command, moment(now))


def release(actor: str, amount: int | None = None, tranche: int = 2) -> ReleaseHold:
    return ReleaseHold(builders.ACCOUNT, actor, "payer_verified", builders.REPAYMENT, tranche, amount)


def test_much_money_is_released_when_two_people_say_so() -> None:
    first = decided(MUCH, release("a"))
    assert (first.outcome, first.reason, first.events) == ("applied", "needs_another_person", ())
    assert [entry.action for entry in first.state.audits] == ["ask_release"]
    again = decided(first.state, release("a"))
    assert again.events == (), "the same person twice is one person"
    second = decided(again.state, release("b"))
    assert [type(event) for event in second.events] == [HoldReleaseApproved]
    assert [entry.action for entry in second.state.audits] == ["ask_release", "ask_release", "release_hold"]
    assert decided(second.state, release("b")).events == (), "a word counts once"


def test_a_minor_unit_less_takes_one_person() -> None:
    little = Desk(builders.ACCOUNT, stakes={PLACE: SECOND_PERSON_MINOR - 1})
    assert len(decided(little, release("a")).events) == 1


def test_a_small_part_of_much_money_takes_two_as_well() -> None:
    assert decided(MUCH, release("a", amount=1)).events == ()


@pytest.mark.parametrize(
    "other",
    [release("b", amount=5), release("b", tranche=3)],
    ids=["of another amount", "of another part"],
)
def test_another_word_does_not_count(other: ReleaseHold) -> None:
    both = Desk(builders.ACCOUNT, stakes={PLACE: SECOND_PERSON_MINOR, (builders.REPAYMENT, 3): SECOND_PERSON_MINOR})
    assert decided(decided(both, release("a")).state, other).events == ()


def test_the_first_word_ends_after_a_day() -> None:
    asked = decided(MUCH, release("a")).state
    assert len(decided(asked, release("b"), NOW + LONG - timedelta(milliseconds=1)).events) == 1
    assert decided(asked, release("b"), NOW + LONG).events == ()


def test_to_keep_money_longer_takes_one_person() -> None:
    command = ExtendHold(builders.ACCOUNT, "a", "payer_unverified", *PLACE, NOW + timedelta(days=2))
    assert len(decided(MUCH, command).events) == 1


@pytest.mark.parametrize("outcome", ["credit_restored", "books_corrected", "explained", "hold_kept", "nothing_to_do"])
def test_a_case_whose_end_moves_much_money_is_resolved_by_two(outcome: CaseOutcome) -> None:
    opened = decide(None, Desk(builders.ACCOUNT), builders.restoration_delayed(), moment(NOW)).state
    (case,) = opened.cases.values()
    state = Desk(
        builders.ACCOUNT, opened.cases, stakes={(case.repayment_id or "", case.tranche or 0): SECOND_PERSON_MINOR}
    )

    def resolve(state: Desk, actor: str) -> Desk:
        command = MoveCase(builders.ACCOUNT, actor, "checked", case.case_id, "resolve", outcome, "")
        return decided(state, command).state

    one = resolve(state, "a")
    assert one.cases[case.case_id].state == ("open" if outcome in MOVES_MONEY else "resolved")
    two = resolve(one, "b").cases[case.case_id]
    assert two.state == "resolved"


def test_a_case_about_no_money_takes_one_person() -> None:
    opened = decide(None, Desk(builders.ACCOUNT), builders.restoration_delayed(), moment(NOW)).state
    (case,) = opened.cases
    command = MoveCase(builders.ACCOUNT, "a", "checked", case, "resolve", "books_corrected", "")
    assert decided(opened, command).state.cases[case].state == "resolved"


@pytest.mark.parametrize(
    "command",
    [
        release("a"),
        ExtendHold(builders.ACCOUNT, "a", "why", *PLACE, NOW + timedelta(days=2)),
        TakeFeedback(builders.ACCOUNT, "a", "why", "question", "restoration", RepaymentId(builders.REPAYMENT)),
    ],
    ids=lambda command: type(command).__name__,
)
def test_nobody_does_more_than_so_much_a_day(command: Command) -> None:
    tired = Desk(builders.ACCOUNT, acts={"a": ACTS_A_DAY_MAX, "b": ACTS_A_DAY_MAX - 1})
    refused = decided(tired, command)
    assert (refused.outcome, refused.reason, refused.events) == ("stale", "enough_for_a_day", ())
    assert refused.state is tired
    fresh = Desk(builders.ACCOUNT, acts={"a": ACTS_A_DAY_MAX - 1})
    assert decided(fresh, command).outcome == "applied"


def test_the_database_knows_the_same_number() -> None:
    text = (ROOT / "services" / "console" / "migrations" / "003_second_person.sql").read_text()
    assert f">= {ACTS_A_DAY_MAX} THEN" in text


def test_what_is_said_of_it_is_so() -> None:
    said = (ROOT / "services" / "README.md").read_text()
    assert f"{SECOND_PERSON_MINOR:,} minor units or more" in said
    assert f"the same within {SECOND_PERSON_HOURS} hours; one person does at most {ACTS_A_DAY_MAX} things a day" in said
