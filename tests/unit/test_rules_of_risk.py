"""Rules R4, R6, R14, R15, R16, R22 and E20 as risk-scoring decides them, and what would have been faster."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from schemas.event import Event
from schemas.reasons import Reason
from schemas.risk import RiskAssessed, Tier
from schemas.settlement import RepaymentSettled
from services.decision import Decision
from services.policy import Profiles, parse_profile
from services.profiles import calendar
from services.risk_scoring.domain import MODEL_VERSION, decide
from services.risk_scoring.model import Account
from tests import builders
from tests.unit.given import FRIDAY, Pipe, all_of, china, moment, only, profiles, table, weekdays

TUESDAY, NEXT_FRIDAY = china("2026-11-24", "09:00"), china("2026-11-27", "09:00")
MONDAY = china("2026-11-23", "09:00")
MINUTE = timedelta(minutes=1)


def settled(amount: int = 500_000, *, ref: str = "r1", rail: str = "direct_debit", **changes: Any) -> RepaymentSettled:
    finality = "final" if rail == "wallet" else "provisional"
    values = {"repayment_id": ref, "amount_minor": amount, "restorable_minor": amount, "rail": rail, **changes}
    return builders.repayment_settled(**{"repaid_at": FRIDAY, "finality": finality, **values})


class Risk:
    """One account at risk-scoring: events in at their instants, facts out."""

    def __init__(self, policy: Profiles | None = None, *, tier: Tier = "unknown", limit: int | None = None) -> None:
        self.policy = policy or profiles()
        self.state = replace(Account(builders.ACCOUNT), tier=tier, credit_limit_minor=limit)
        self.outcome = ""

    def take(self, event: Event, now: datetime = FRIDAY) -> tuple[Event, ...]:
        decision: Decision[Account] = decide(self.policy, self.state, event, moment(now))
        self.state, self.outcome = decision.state, decision.outcome
        return decision.events

    def assess(self, amount: int = 500_000, now: datetime = FRIDAY, **changes: Any) -> RiskAssessed:
        return only(self.take(settled(amount, **changes), now), RiskAssessed)


def parts(fact: RiskAssessed) -> list[tuple[int, datetime]]:
    return [(tranche.amount_minor, tranche.due_at) for tranche in fact.tranches]


def at_once(fact: RiskAssessed) -> int:
    return sum(amount for amount, due in parts(fact) if due <= fact.occurred_at)


def discover() -> Profiles:
    return Profiles({"discover_it": parse_profile(table(name="discover_it"), calendar)})


# ---- R6, R14: tranches and the instant cap ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tier", "now"),
    [("A", 300_000), ("B", 200_000), ("C", 100_000), ("D", 50_000), ("E", 0), ("unknown", 100_000)],
)
def test_r14_the_instant_cap_is_the_tiers(tier: Tier, now: int) -> None:
    fact = Risk(tier=tier).assess()
    assert (at_once(fact), fact.tier) == (now, tier)
    assert sum(amount for amount, _ in parts(fact)) == 500_000


def test_r14_every_account_is_of_tier_unknown_until_a_score_exists() -> None:
    assert Risk().assess().tier == "unknown"


def test_r14_five_repayments_of_90000_get_90000_and_10000_at_once_and_350000_are_held() -> None:
    risk = Risk()
    facts = [risk.assess(90_000, FRIDAY + n * MINUTE, ref=f"r{n}") for n in range(5)]
    assert [at_once(fact) for fact in facts] == [90_000, 10_000, 0, 0, 0]
    assert sum(90_000 - at_once(fact) for fact in facts) == 350_000


@pytest.mark.parametrize(
    ("after", "left"), [(timedelta(hours=72) - timedelta(milliseconds=1), 0), (timedelta(hours=72), 100_000)]
)
def test_r14_the_window_rolls_to_the_millisecond(after: timedelta, left: int) -> None:
    risk = Risk()
    risk.assess(100_000, ref="r1")
    assert at_once(risk.assess(100_000, FRIDAY + after, ref="r2")) == left


def test_r14_each_use_leaves_the_window_by_itself() -> None:
    risk = Risk()
    risk.assess(60_000, ref="r1")
    risk.assess(40_000, FRIDAY + timedelta(hours=10), ref="r2")
    assert at_once(risk.assess(100_000, FRIDAY + timedelta(hours=72), ref="r3")) == 60_000
    assert at_once(risk.assess(100_000, FRIDAY + timedelta(hours=82), ref="r4")) == 40_000


def test_r14_a_final_rail_never_uses_the_cap_whatever_the_tier() -> None:
    risk = Risk(tier="E")
    fact = risk.assess(800_000, rail="wallet")
    assert (fact.outcome, fact.reasons, parts(fact)) == ("clear", (Reason.RELEASE_FINAL_RAIL,), [(800_000, FRIDAY)])
    assert not risk.state.assessments


def test_r14_a_returned_repayment_keeps_its_use_of_the_cap() -> None:
    risk = Risk()
    risk.assess(100_000, ref="r1", funding_account_id=None)
    risk.take(builders.repayment_returned(repayment_id="r1", reallocated=()))
    assert at_once(risk.assess(50_000, FRIDAY + MINUTE, ref="r2", funding_account_id=None)) == 0


def test_r22_both_halves_of_a_split_collection_are_within_the_cap() -> None:
    risk = Risk()
    wallet = risk.assess(20_000, rail="wallet", ref="w")
    card = risk.assess(30_000, FRIDAY + MINUTE, rail="card", ref="c")
    assert (wallet.outcome, card.outcome) == ("clear", "clear")
    assert (at_once(wallet), at_once(card)) == (20_000, 30_000)


@pytest.mark.parametrize(("amount", "days"), [(1_000_000, "2026-11-24"), (1_000_001, "2026-11-30")])
def test_r06_a_large_repayment_of_discover_it_waits_for_five_banking_days(amount: int, days: str) -> None:
    repaid_at = datetime.fromisoformat("2026-11-20T12:00-05:00")
    fact = Risk(discover()).assess(amount, repaid_at, repaid_at=repaid_at, product="discover_it", currency="USD")
    due = datetime.fromisoformat(f"{days}T09:00-05:00")
    assert parts(fact) == [(50_000, repaid_at), (amount - 50_000, due)]
    assert (Reason.HOLD_AMOUNT_UNUSUAL in fact.reasons) is (amount > 1_000_000)


# ---- R15: credit cycling ----------------------------------------------------------------------------------------


def rounds(risk: Risk, count: int, **changes: Any) -> list[RiskAssessed]:
    return [risk.assess(100_000, FRIDAY + n * MINUTE, ref=f"r{n}", **changes) for n in range(count)]


def test_r15_the_third_and_fourth_round_of_the_whole_limit_are_referred_on_a_reversible_rail() -> None:
    facts = rounds(Risk(limit=100_000), 4)
    assert [fact.outcome for fact in facts] == ["clear", "observe", "refer", "refer"]
    assert [fact.patterns for fact in facts] == [(), (), ("credit_cycling",), ("credit_cycling",)]
    assert parts(facts[2]) == [(100_000, MONDAY)]
    assert facts[2].reasons == (Reason.HOLD_UNDER_REVIEW, Reason.HOLD_RAIL_REVERSIBLE)


def test_r15_on_a_final_rail_it_is_restored_at_once_and_the_event_calls_for_a_case() -> None:
    facts = rounds(Risk(limit=100_000), 4, rail="wallet")
    assert [fact.outcome for fact in facts] == ["clear"] * 4
    assert [at_once(fact) for fact in facts] == [100_000] * 4
    assert [fact.patterns for fact in facts] == [(), (), ("credit_cycling",), ("credit_cycling",)]
    assert {reason for fact in facts for reason in fact.reasons} == {Reason.RELEASE_FINAL_RAIL}


def test_r15_a_statement_begins_the_count_anew() -> None:
    risk = Risk(limit=100_000)
    rounds(risk, 4, rail="wallet")
    risk.take(builders.statement_issued(occurred_at=FRIDAY + timedelta(hours=1)))
    later = {"settled_at": FRIDAY + timedelta(hours=2), "rail": "wallet"}
    again = [risk.assess(100_000, FRIDAY + timedelta(hours=2), ref=f"s{n}", **later) for n in range(3)]
    assert [bool(fact.patterns) for fact in again] == [False, False, True]


def test_r15_a_repayment_settled_before_the_statement_belongs_to_the_cycle_before() -> None:
    risk = Risk(limit=100_000)
    rounds(risk, 2, rail="wallet")
    risk.take(builders.statement_issued(occurred_at=FRIDAY + timedelta(hours=1)))
    overtaken = risk.assess(100_000, FRIDAY + timedelta(hours=2), ref="late", rail="wallet", settled_at=FRIDAY)
    assert overtaken.patterns == ("credit_cycling",)
    assert risk.state.cycle.settled_minor == 0
    assert risk.state.cycle.before_minor == 300_000


def test_r15_only_what_is_restorable_counts_and_an_unknown_limit_refers_nothing() -> None:
    assert not any(fact.patterns for fact in rounds(Risk(limit=100_000), 4, restorable_minor=50_000))
    assert not any(fact.patterns for fact in rounds(Risk(), 4))


def test_r15_a_raised_limit_allows_more() -> None:
    risk = Risk(limit=100_000)
    rounds(risk, 2, rail="wallet")
    risk.take(builders.credit_limit_changed(credit_limit_minor=150_000))
    assert risk.assess(100_000, FRIDAY + MINUTE, ref="r9", rail="wallet").patterns == ()


def test_r15_a_referred_repayment_comes_back_by_its_date_without_a_verdict() -> None:
    pipe = Pipe().open(100_000, principal=100_000)
    for n in range(3):
        pipe.repay(100_000, ref=f"r{n}", rail="direct_debit", at=FRIDAY + n * MINUTE)
        pipe.buy(100_000, ref=f"p{n}")
    assert [fact.outcome for fact in all_of(pipe.events, RiskAssessed)] == ["clear", "observe", "refer"]
    pipe.pass_until(MONDAY)
    assert pipe.repayment("r2").part("restored") == 100_000


# ---- R16: calendars ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cut_off", "holidays", "working", "second", "fifth"),
    [
        ("23:00", (), (), "2026-11-24", "2026-11-27"),
        ("17:00", (), (), "2026-11-25", "2026-11-30"),
        ("23:00", ("2026-11-23",), (), "2026-11-25", "2026-11-30"),
        ("23:00", (), ("2026-11-21",), "2026-11-23", "2026-11-26"),
    ],
)
def test_r16_a_repayment_of_friday_night_comes_back_by_cut_off_holiday_and_working_saturday(
    cut_off: str, holidays: tuple[str, ...], working: tuple[str, ...], second: str, fifth: str
) -> None:
    made = weekdays(holidays=holidays, working=working)
    fact = Risk(profiles({"calendar.banking_cut_off": cut_off}, made=made)).assess()
    assert [due for _, due in parts(fact)[1:]] == [china(second, "09:00"), china(fifth, "09:00")]
    assert fact.calendar_version == "made@1"


def test_r16_galileos_case() -> None:
    rest = [{"share_bps": 10_000, "banking_days": 3}]
    rules: Mapping[str, object] = {
        "calendar.banking_cut_off": "13:00",
        "calendar.release_time": "06:00",
        "hold.REVERSIBLE.rest": rest,
        "instant_cap_by_tier.unknown": 0,
    }
    monday = china("2026-11-23", "13:30")
    fact = Risk(profiles(rules)).assess(100_000, monday, repaid_at=monday)
    assert parts(fact) == [(100_000, china("2026-11-27", "06:00"))]


def test_r16_our_own_delay_never_lengthens_a_hold() -> None:
    prompt, late = Risk().assess(), Risk().assess(now=FRIDAY + timedelta(days=2))
    assert [due for _, due in parts(prompt)[1:]] == [due for _, due in parts(late)[1:]]


def test_r16_a_date_already_past_means_now_and_is_no_hold() -> None:
    fact = Risk().assess(now=TUESDAY + timedelta(hours=1))
    assert [tranche.reason for tranche in fact.tranches] == [
        Reason.RELEASE_WITHIN_CAP,
        Reason.RELEASE_TIMER,
        Reason.HOLD_RAIL_REVERSIBLE,
    ]
    over = Risk().assess(now=NEXT_FRIDAY)
    assert (over.outcome, over.reasons) == ("clear", (Reason.RELEASE_WITHIN_CAP, Reason.RELEASE_TIMER))
    assert at_once(over) == 500_000


def test_r16_the_spring_festival_and_its_working_weekends_are_in_the_calendar() -> None:
    """Bank days after Friday 13 February 2026: Saturday 14 (worked), then Tuesday 24 to Friday 27, Saturday 28."""
    repaid_at = china("2026-02-13", "12:00")
    fact = Risk().assess(now=repaid_at, repaid_at=repaid_at)
    assert [due for _, due in parts(fact)[1:]] == [china("2026-02-24", "09:00"), china("2026-02-27", "09:00")]
    assert fact.calendar_version.startswith("cn-banking@holidays-")


def test_r16_the_longest_hold_of_the_default_product_is_sixteen_days() -> None:
    repaid_at = china("2026-02-14", "23:30")
    last = Risk().assess(now=repaid_at, repaid_at=repaid_at).tranches[-1]
    assert last.due_at == china("2026-03-02", "09:00")


# ---- guards, strikes and reviews --------------------------------------------------------------------------------


def strike(risk: Risk, ref: str, now: datetime = FRIDAY, **changes: Any) -> None:
    risk.assess(1_000, now, ref=ref)
    values = {"repayment_id": ref, "occurred_at": now, "reallocated": (), **changes}
    risk.take(builders.repayment_returned(**values), now)


def test_r08_two_returns_are_strikes_on_their_funding_account_and_nothing_of_the_next_is_given_at_once() -> None:
    risk = Risk()
    strike(risk, "r0")
    assert at_once(risk.assess(50_000, FRIDAY + MINUTE, ref="between")) == 50_000
    strike(risk, "r1")
    fact = risk.assess(40_000, FRIDAY + MINUTE, ref="r2")
    assert (fact.outcome, fact.reasons) == ("observe", (Reason.HOLD_PRIOR_RETURN, Reason.HOLD_RAIL_REVERSIBLE))
    assert at_once(fact) == 0
    other = risk.assess(40_000, FRIDAY + MINUTE, ref="r3", funding_account_id="funding_2")
    assert at_once(other) == 40_000, "strikes are the funding account's, not the customer's"


def test_r08_three_strikes_refer_and_a_final_rail_is_cleared_all_the_same() -> None:
    risk = Risk()
    for ref in ("r0", "r1", "r2"):
        strike(risk, ref)
    fact = risk.assess(50_000, FRIDAY + MINUTE, ref="r3")
    assert (fact.outcome, fact.patterns) == ("refer", ("prior_returns",))
    wallet = risk.assess(50_000, FRIDAY + MINUTE, ref="r4", rail="wallet")
    assert (wallet.outcome, wallet.patterns) == ("clear", ())


@pytest.mark.parametrize(("days", "at_once_minor"), [(89, 0), (90, 50_000)])
def test_e20_a_strike_expires(days: int, at_once_minor: int) -> None:
    risk = Risk()
    strike(risk, "r0")
    strike(risk, "r1", FRIDAY + timedelta(days=5))
    later = FRIDAY + timedelta(days=days)
    assert at_once(risk.assess(50_000, later, ref="r2", repaid_at=later)) == at_once_minor


def test_e20_the_issuers_own_error_is_no_strike() -> None:
    risk = Risk()
    for ref in ("r0", "r1", "r3"):
        strike(risk, ref, fault="issuer")
    assert not risk.state.funding
    assert risk.assess(50_000, FRIDAY + MINUTE, ref="r2").outcome == "clear"


def test_a_return_told_twice_or_of_an_unknown_repayment_is_no_further_strike() -> None:
    risk = Risk()
    for _ in range(2):
        strike(risk, "r1")
    risk.take(builders.repayment_returned(repayment_id="nobody", reallocated=()))
    assert len(risk.state.funding[builders.FUNDING_ACCOUNT].strikes) == 1


def test_a_return_of_a_repayment_without_a_funding_account_is_nobodys_strike() -> None:
    risk = Risk()
    risk.assess(1_000, ref="r1", funding_account_id=None)
    risk.take(builders.repayment_returned(repayment_id="r1", reallocated=()))
    assert not risk.state.funding


def test_a_repayment_that_restores_nothing_is_never_held() -> None:
    risk = Risk(limit=1)
    for ref in ("r0", "r1", "r3"):
        strike(risk, ref)
    fact = risk.assess(10_000, ref="r2", restorable_minor=0)
    assert (fact.outcome, fact.tranches, fact.patterns) == ("clear", (), ())
    assert fact.reasons == (Reason.PAID_FEES_AND_INTEREST,)


# ---- revisions --------------------------------------------------------------------------------------------------

VERIFIED = builders.funding_account_linked()


def test_an_account_verified_while_its_hold_runs_moves_the_dates_earlier_and_nothing_else() -> None:
    risk = Risk()
    first = risk.assess()
    fact = only(risk.take(VERIFIED, FRIDAY + timedelta(hours=1)), RiskAssessed)
    assert [(t.number, t.amount_minor, t.due_at) for t in fact.tranches] == [
        (1, 100_000, FRIDAY),
        (2, 200_000, TUESDAY),
        (3, 200_000, TUESDAY),
    ]
    assert (fact.revision, fact.outcome, fact.reasons) == (1, "observe", first.reasons)
    assert (fact.caused_by, fact.trail, fact.event_id != first.event_id) == (VERIFIED.event_id, first.trail, True)
    assert fact.faster == ("final_rail", "within_cap")
    assert RiskAssessed.model_validate_json(fact.model_dump_json()) == fact


def test_an_account_verified_after_its_shorter_hold_would_have_ended_clears_the_rest() -> None:
    risk = Risk()
    risk.assess()
    fact = only(risk.take(VERIFIED, TUESDAY + timedelta(hours=1)), RiskAssessed)
    assert (fact.outcome, fact.reasons) == ("clear", (Reason.RELEASE_VERIFIED_ACCOUNT,))
    assert [t.due_at for t in fact.tranches] == [FRIDAY, TUESDAY, TUESDAY]
    assert fact.tranches[2].reason is Reason.RELEASE_VERIFIED_ACCOUNT
    assert fact.tranches[1].reason is Reason.HOLD_RAIL_REVERSIBLE, "what matured by itself is left as it was"


@pytest.mark.parametrize(
    "between",
    [
        builders.hold_release_approved(repayment_id="r1"),
        builders.hold_extended(repayment_id="r1"),
        builders.repayment_returned(repayment_id="r1", reallocated=()),
        builders.repayments_reallocated(reallocated=(("r1", -5, 0),)),
        builders.funding_account_linked(funding_account_id="funding_2"),
        builders.funding_account_linked(verified=False),
    ],
)
def test_a_hold_is_left_alone_by_what_is_not_its_verification_and_after_a_person_or_the_bank_decided(
    between: Event,
) -> None:
    risk = Risk()
    risk.assess()
    assert risk.take(between) == ()
    if between.__class__.__name__ != "FundingAccountLinked":
        assert risk.take(VERIFIED, FRIDAY + MINUTE) == ()


def test_a_verification_told_twice_revises_once_and_a_referred_hold_is_not_revised() -> None:
    risk = Risk(limit=100_000)
    risk.assess(100_000, ref="r1")
    risk.assess(100_000, ref="r2")
    risk.assess(100_000, ref="r3")
    told = [fact.repayment_id for fact in all_of(risk.take(VERIFIED), RiskAssessed)]
    assert told == ["r2"], "r1 was clear, r3 is referred"
    assert risk.take(VERIFIED) == ()


def test_a_settlement_that_moved_another_repayment_leaves_its_dates_alone() -> None:
    risk = Risk()
    risk.assess(ref="r1")
    risk.assess(ref="r2", reallocated=(("r1", -10, 0),))
    assert [fact.repayment_id for fact in all_of(risk.take(VERIFIED), RiskAssessed)] == ["r2"]


def test_a_revision_pins_the_policy_it_was_made_by() -> None:
    risk = Risk()
    risk.assess()
    risk.policy = profiles({"version": "2026-12-01.1"})
    fact = only(risk.take(VERIFIED), RiskAssessed)
    assert (fact.policy_version, fact.model_version) == ("default@2026-12-01.1", MODEL_VERSION)


# ---- what would have been faster --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "ways"),
    [
        ({}, ("final_rail", "verified_account", "within_cap")),
        ({"instant_cap_by_tier.unknown": 0}, ("final_rail", "verified_account")),
        ({"hold.REVERSIBLE.rest": [{"share_bps": 10_000, "banking_days": 2}]}, ("final_rail", "within_cap")),
    ],
)
def test_l05_faster_is_what_the_same_policy_answers_with_one_input_changed(
    changes: Mapping[str, object], ways: tuple[str, ...]
) -> None:
    assert Risk(profiles(changes)).assess().faster == ways


def test_l05_a_used_up_cap_a_verified_account_and_a_strike_leave_only_what_helps() -> None:
    used = Risk()
    used.assess(100_000, ref="r1")
    assert used.assess(ref="r2").faster == ("final_rail", "verified_account")
    verified = Risk()
    verified.take(VERIFIED)
    assert verified.assess().faster == ("final_rail", "within_cap")
    struck = Risk()
    strike(struck, "r0")
    strike(struck, "r1")
    assert struck.assess(50_000, ref="r2").faster == ("final_rail", "verified_account")
    assert Risk().assess(100_000).faster == ()


def test_l05_a_referred_repayment_is_helped_by_a_final_rail_alone() -> None:
    risk = Risk(profiles({"instant_cap_by_tier.unknown": 300_000}), limit=100_000)
    risk.assess(150_000, ref="r1", rail="wallet")
    assert risk.assess(100_000, ref="r2").faster == ("final_rail",)


def test_at_most_four_reasons_most_important_first() -> None:
    risk = Risk(
        profiles({"hold.REVERSIBLE.large": {"above_minor": 1, "rest": [{"share_bps": 10_000, "banking_days": 5}]}})
    )
    assert risk.assess().reasons == (
        Reason.HOLD_RAIL_REVERSIBLE,
        Reason.HOLD_OVER_INSTANT_CAP,
        Reason.HOLD_AMOUNT_UNUSUAL,
    )
