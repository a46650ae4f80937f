"""What became of a repayment: labels mature by date, exposure follows every decision, and bounds what comes back."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Event
from schemas.ids import RepaymentId
from schemas.reasons import Reason
from schemas.risk import RiskAssessed
from schemas.settlement import Reallocation, RepaymentSettled
from services.decision import Decision
from services.policy import Profiles
from services.risk_scoring.domain import decide
from services.risk_scoring.exposure import UNBOUNDED, left_to_customer, left_to_portfolio
from services.risk_scoring.model import Account
from services.risk_scoring.outcomes import Labels, Outcome, changed
from tests import builders
from tests.unit.given import FRIDAY, china, moment, only, profiles

NOW = FRIDAY + timedelta(seconds=5)
TODAY = NOW.astimezone(UTC).date()
FINAL_ON = date(2027, 1, 19)
MATURE, END = china("2026-11-28", "00:00"), china("2027-01-20", "00:00")
EXPOSURE = "hold.REVERSIBLE.exposure"


def after(*events: Event, policy: Profiles | None = None, account: Account | None = None) -> Decision[Account]:
    decision = Decision(account or Account(builders.ACCOUNT, credit_limit_minor=600_000))
    for event in events:
        decision = decide(policy or profiles(), decision.state, event, moment(NOW))
    return decision


def settled(ref: str = builders.REPAYMENT, amount: int = 500_000, **changes: object) -> Event:
    values = {"repayment_id": ref, "amount_minor": amount, "restorable_minor": amount, "final_on": FINAL_ON}
    return builders.repayment_settled(**{**values, **changes})


def returned(**changes: object) -> Event:
    return builders.repayment_returned(**{"reallocated": (), **changes})


def outcome(*events: Event) -> Outcome:
    (found,) = after(*events).state.outcomes.values()
    return found


@pytest.mark.parametrize(
    ("came", "now", "labels"),
    [
        (None, MATURE - timedelta(seconds=1), Labels(None, None)),
        (None, MATURE, Labels(False, None)),
        (None, END, Labels(False, False)),
        ({"at": "2026-11-24"}, MATURE - timedelta(seconds=1), Labels(None, None)),
        ({"at": "2026-11-24"}, MATURE, Labels(True, None)),
        ({"at": "2026-11-27"}, END, Labels(True, False)),
        ({"at": "2026-11-28"}, END, Labels(False, False)),
        ({"at": "2026-12-20", "return_class": Reason.RETURNED_UNAUTHORISED}, END, Labels(False, True)),
        ({"at": "2026-11-24", "fault": "issuer"}, END, Labels(None, None)),
    ],
)
def test_a_label_is_learnt_from_its_date_on(came: dict[str, object] | None, now: datetime, labels: Labels) -> None:
    events = [settled()]
    if came is not None:
        changes = {"return_class": Reason.RETURNED_INSUFFICIENT_FUNDS, **came}
        events.append(returned(occurred_at=china(str(changes.pop("at")), "11:00"), **changes))
    found = outcome(*events)
    assert found.fast_at == MATURE
    assert found.slow_at == END
    assert found.labels(now) == labels


def test_a_label_waits_for_five_banking_days_where_holidays_make_them_longer_than_a_week() -> None:
    paid = china("2026-09-30", "12:00")
    found = outcome(settled(repaid_at=paid, settled_at=paid))
    assert found.fast_at == found.fast_until > found.settled_at + timedelta(days=7)


def test_a_return_told_twice_keeps_its_first_word() -> None:
    first = returned(occurred_at=china("2026-11-24"), return_class=Reason.RETURNED_UNAUTHORISED)
    found = outcome(settled(), first, returned(occurred_at=china("2026-11-26")))
    assert (found.returned_at, found.returned_by) == (china("2026-11-24"), "customer")


def test_a_rail_that_is_final_has_no_outcome_and_exposes_nothing() -> None:
    state = after(settled(rail="wallet", finality="final")).state
    assert (state.outcomes, state.exposed_minor) == ({}, 0)


def test_parts_are_exposed_from_when_they_are_given_back_until_they_are_final() -> None:
    found = outcome(settled())
    dates = (TODAY, date(2026, 11, 24), date(2026, 11, 27))
    assert found.spans == Counter(
        {(day, FINAL_ON): minor for day, minor in zip(dates, (100_000, 200_000, 200_000), strict=True)}
    )
    assert after(settled()).state.exposed_minor == 100_000


def test_what_lets_a_hold_end_sooner_moves_its_part() -> None:
    verified = outcome(settled(), builders.funding_account_linked(verified=True))
    assert verified.spans == Counter({(TODAY, FINAL_ON): 100_000, (date(2026, 11, 24), FINAL_ON): 400_000})
    reviewed = builders.hold_release_approved(repayment_id=builders.REPAYMENT, tranche=3)
    assert outcome(settled(), reviewed).spans[TODAY, FINAL_ON] == 300_000


def test_a_return_takes_its_parts_out_of_what_is_exposed() -> None:
    state = after(settled(amount=60_000), settled("r2", 30_000), returned()).state
    assert state.exposed_minor == sum(state.outcomes["r2"].spans.values()) == 30_000
    assert not state.outcomes[builders.REPAYMENT].spans


@given(st.lists(st.integers(-700_000, 300_000), max_size=4))
def test_a_replay_takes_from_the_last_part_first_and_never_below_nothing(deltas: list[int]) -> None:
    found, minor = outcome(settled()), 500_000
    for delta in deltas:
        change = Reallocation(builders.REPAYMENT, delta, 0)
        found = found.moved(change.restorable_delta_minor)
        minor = max(0, minor + delta)
        assert sum(part.minor for part in found.parts) == found.restorable_minor == minor
        assert all(part.minor >= 0 for part in found.parts)


def test_news_of_other_repayments_moves_what_they_expose() -> None:
    late = builders.repayments_reallocated(reallocated=(Reallocation(builders.REPAYMENT, -300_000, 300_000),))
    state = after(settled(), late).state
    assert [part.minor for part in state.outcomes[builders.REPAYMENT].parts] == [100_000, 100_000, 0]


def test_a_customer_is_given_no_more_than_the_cap_before_it_is_final_whatever_the_window() -> None:
    policy = profiles({EXPOSURE: {"per_customer": True}, "hold.REVERSIBLE.window_hours": 1})
    known = after(settled("r1", 80_000), policy=policy).state
    fact = only(after(settled("r2", 80_000), policy=policy, account=known).events, RiskAssessed)
    assert fact.tranches[0].amount_minor == 20_000
    low = Account(builders.ACCOUNT, credit_limit_minor=30_000)
    assert (
        only(after(settled(amount=50_000), policy=policy, account=low).events, RiskAssessed).tranches[0].amount_minor
        == 30_000
    )


@pytest.mark.parametrize("method", ["schedule", "formula"])
@pytest.mark.parametrize(
    ("rail", "finality", "exposed", "at_once", "over"),
    [
        ("direct_debit", "provisional", 999_000, 1_000, True),
        ("direct_debit", "provisional", 2_000_000, 0, True),
        ("direct_debit", "provisional", 900_000, 5_000, False),
        ("wallet", "final", 2_000_000, 5_000, False),
    ],
)
def test_a_spent_budget_holds_on_rails_that_may_take_it_back_and_on_no_other(
    method: str, rail: str, finality: str, exposed: int, at_once: int, over: bool
) -> None:
    policy = profiles({EXPOSURE: {"portfolio_max_minor": 1_000_000}, "hold.REVERSIBLE.method": method})
    account = Account(builders.ACCOUNT, credit_limit_minor=600_000, portfolio_minor={"default": exposed, "demo": 10**9})
    paid = settled(amount=5_000, rail=rail, finality=finality, owed_minor=595_000)
    decision = after(paid, policy=policy, account=account)
    fact = only(decision.events, RiskAssessed)
    assert sum(t.amount_minor for t in fact.tranches if t.due_at <= NOW) == at_once
    assert dict(fact.inputs)["over_budget"] is over
    kept = decision.state.outcomes.values()
    assert [each.over_budget for each in kept] == ([over] if finality == "provisional" else [])
    if over:
        assert Reason.HOLD_OVER_INSTANT_CAP in fact.reasons


def test_what_is_left_to_a_customer_is_the_cap_or_the_limit_less_what_is_exposed_and_never_less_than_nothing() -> None:
    bounded, free = profiles({EXPOSURE: {"per_customer": True}}).of("default"), profiles().of("default")
    cap = bounded.instant_cap_by_tier["unknown"]

    def left(exposed: int, limit: int | None = None) -> int:
        return left_to_customer(bounded, Account(builders.ACCOUNT, credit_limit_minor=limit, exposed_minor=exposed))

    assert [left(0), left(cap - 1), left(cap), left(cap + 1)] == [cap, 1, 0, 0]
    assert [left(1, cap - 5), left(1, cap + 5)] == [cap - 6, cap - 1]
    assert left_to_customer(free, Account(builders.ACCOUNT, exposed_minor=cap)) == UNBOUNDED


def test_what_is_left_of_a_budget_is_all_of_it_before_anything_of_the_product_is_exposed() -> None:
    profile = profiles({EXPOSURE: {"portfolio_max_minor": 100}}).of("default")
    for exposed, left in ((None, 100), (1, 99), (100, 0), (101, 0)):
        others = {"demo": 50} | ({} if exposed is None else {"default": exposed})
        assert left_to_portfolio(profile, Account(builders.ACCOUNT, portfolio_minor=others)) == left
    assert left_to_portfolio(profiles().of("default"), Account(builders.ACCOUNT)) is None


def test_a_batch_counts_what_it_gives_back_of_a_product_before_it_is_written() -> None:
    """The next repayment of a batch sees what the one before it took of the budget."""
    one = after(settled(amount=60_000))
    assert one.state.portfolio_minor == {"default": 60_000}
    two = after(settled("r2", 30_000), account=one.state)
    assert (two.state.portfolio_minor, two.state.exposed_minor) == ({"default": 90_000}, 90_000)
    gone = after(returned(), account=two.state)
    assert (gone.state.portfolio_minor, gone.state.exposed_minor) == ({"default": 30_000}, 30_000)


@pytest.mark.parametrize(("days", "exposed"), [(0, 60_000), (-1, 0)])
def test_what_is_final_today_is_exposed_to_its_end(days: int, exposed: int) -> None:
    assert after(settled(amount=60_000, final_on=TODAY + timedelta(days=days))).state.exposed_minor == exposed


def test_a_settlement_and_a_return_move_what_others_expose_and_nothing_of_what_is_not_known() -> None:
    moved = (
        Reallocation(builders.REPAYMENT, -300_000, 0),
        Reallocation(RepaymentId("elsewhere"), -5, 0),
        Reallocation(RepaymentId("r2"), 0, 0),
    )
    late = settled("r3", 10_000, reallocated=moved)
    back = returned(repayment_id="r2", reallocated=moved)
    for news in (late, back):
        known = after(settled(), settled("r2", 30_000), news).state.outcomes
        assert [part.minor for part in known[builders.REPAYMENT].parts] == [100_000, 100_000, 0]
        assert "elsewhere" not in known


def test_an_outcome_keeps_what_was_known_when_the_verdict_was_given() -> None:
    event = settled(restorable_minor=450_000, credit_balance_minor=20_000)
    assert isinstance(event, RepaymentSettled)
    decision = after(event)
    fact, (found,) = only(decision.events, RiskAssessed), decision.state.outcomes.values()
    alike = ("repayment_id", "account_id", "product", "currency", "rail", "repaid_at", "settled_at", "final_on")
    money = ("amount_minor", "restorable_minor", "credit_balance_minor")
    assert all(getattr(found, name) == getattr(event, name) for name in (*alike, *money))
    assert all(getattr(found, name) == getattr(fact, name) for name in ("tier", "inputs", "model_version"))
    assert (found.verdict, found.policy_version) == (fact.outcome, fact.policy_version)
    assert (found.assessed_at, found.returned_at, found.returned_by) == (fact.occurred_at, None, None)
    assert [part.minor for part in found.parts] == [part.amount_minor for part in fact.tranches]


def test_a_fast_label_waits_a_week_for_news_of_a_repayment_that_settled_late() -> None:
    at = FRIDAY + timedelta(days=6)
    found = outcome(settled(settled_at=at))
    assert (found.fast_until, found.fast_at) == (MATURE, at + timedelta(days=7))
    end = replace(found, returned_at=MATURE, returned_by="bank")
    assert end.labels(found.fast_at) == Labels(False, None), "the fifth banking day was over"


def test_more_to_restore_goes_to_the_last_part() -> None:
    found = outcome(settled()).moved(50_000)
    assert [part.minor for part in found.parts] == [100_000, 200_000, 250_000]
    assert [part.minor for part in found.moved(-300_000).parts] == [100_000, 150_000, 0]


def test_a_part_is_never_dated_later_than_it_was() -> None:
    found = outcome(settled())
    assert found.released(2, date(2026, 12, 24)) == found
    assert [part.from_on for part in found.released(2, TODAY).parts] == [TODAY, TODAY, date(2026, 11, 27)]
    fact = only(after(settled()).events, RiskAssessed)
    later = tuple(part._replace(due_at=part.due_at + timedelta(days=1)) for part in fact.tranches)
    assert found.dated(fact.model_copy(update={"tranches": later})) == found


def test_a_return_of_the_bank_is_not_the_customers_word() -> None:
    back = returned(return_class=Reason.RETURNED_INSUFFICIENT_FUNDS)
    assert outcome(settled(), back).returned_by == "bank"


def test_what_changed_of_the_exposure_is_the_difference_by_span() -> None:
    found = outcome(settled())
    less = found.moved(-50_000)
    assert changed(None, found) == found.spans
    assert changed(found, less) == {(date(2026, 11, 27), FINAL_ON): -50_000}
    assert changed(found, found) == {}
    gone = replace(found, returned_at=NOW)
    assert changed(found, gone) == {span: -minor for span, minor in found.spans.items()}


@pytest.mark.usefixtures("far_east")
def test_days_are_utcs_wherever_it_runs() -> None:
    state = after(settled(amount=60_000, final_on=TODAY)).state
    assert state.exposed_minor == 60_000
    assert outcome(settled()).parts[0].from_on == TODAY
