"""What keeps all of a repayment back before any price is asked: each guard with worked numbers (risk 4.5)."""

from datetime import timedelta
from typing import Any

import pytest

from schemas.account import AccountStatusChanged, RepaymentDisputed
from schemas.event import Event
from schemas.ids import repayment_id
from schemas.reasons import Reason
from schemas.risk import RiskAssessed
from services.console.domain import decide as console_decides
from services.console.model import Desk
from services.policy import Profiles
from services.prior import Guards
from services.risk_scoring.credit import Credit
from services.risk_scoring.domain import decide, judge
from services.risk_scoring.guards import fired
from services.risk_scoring.model import Account, Question, Use, Warned
from services.risk_scoring.view import asked_of
from services.values import replace
from tests import builders
from tests.unit.given import FRIDAY, china, moment, only, profile, profiles

FORMULA = {"hold.REVERSIBLE.method": "formula"}
NOW = FRIDAY + timedelta(seconds=5)
LIMIT = 600_000
KNOWN = Account(builders.ACCOUNT, LIMIT, credit=Credit("default", "CNY", FRIDAY - timedelta(days=400)))
LONG_USED = Use("fund_1", FRIDAY - timedelta(days=300), 1)
SMALL = {"amount_minor": 5_000, "restorable_minor": 5_000, "funding_account_id": "fund_1"}


def settled(name: str = "r_1", days: float = 0, **changes: Any) -> Any:
    at = FRIDAY + timedelta(days=days)
    when = {"repaid_at": at, "settled_at": at + timedelta(seconds=2)}
    return builders.repayment_settled(**{**SMALL, **when, "repayment_id": name, **changes})


def after(state: Account, *events: Event, policy: Profiles | None = None) -> Account:
    for event in events:
        at = max(event.occurred_at, getattr(event, "settled_at", event.occurred_at))
        state = decide(policy or profiles(FORMULA), state, event, moment(at + timedelta(seconds=3))).state
    return state


def verdict(state: Account, event: Any = None, policy: Profiles | None = None) -> RiskAssessed:
    event = event or settled()
    found = decide(policy or profiles(FORMULA), state, event, moment(event.settled_at + timedelta(seconds=3)))
    return only(found.events, RiskAssessed)


def used(state: Account = KNOWN, *, users: int = 1, first_days: int | None = 300) -> Account:
    first = None if first_days is None else FRIDAY - timedelta(days=first_days)
    return replace(state, uses={"fund_1": Use("fund_1", first, users)})


def test_without_a_guard_a_small_repayment_comes_back_at_once() -> None:
    fact = verdict(used())
    assert (fact.outcome, fact.reasons, fact.patterns) == ("clear", (Reason.RELEASE_LOW_RISK,), ())
    assert not {name for name, _ in fact.inputs} & {"disputes", "young", "new_funding", "shared_with", "lately_count"}


def disputed(days: float, ref: str = "earlier") -> RepaymentDisputed:
    at = FRIDAY - timedelta(days=days)
    return builders.repayment_disputed(source="core", external_ref=ref, code="R10", occurred_at=at)


def test_a_dispute_keeps_everything_back_for_sixty_days_or_until_the_return() -> None:
    warned = after(used(), disputed(59))
    fact = verdict(warned)
    assert (fact.outcome, fact.patterns) == ("refer", ("disputed",))
    assert fact.reasons == (Reason.HOLD_UNDER_REVIEW, Reason.HOLD_RAIL_REVERSIBLE)
    assert [part.amount_minor for part in fact.tranches] == [2_500, 2_500]
    assert all(part.due_at > NOW for part in fact.tranches)
    assert verdict(after(used(), disputed(60))).outcome == "clear"
    back = builders.repayment_returned(repayment_id=repayment_id("core", "earlier"), occurred_at=FRIDAY - timedelta(1))
    assert verdict(after(warned, back)).outcome == "clear"
    assert verdict(after(warned, disputed(1, "another"), back)).patterns == ("disputed",)


def standing(status: Any, reason: str, days: float) -> AccountStatusChanged:
    return builders.account_status_changed(status=status, reason=reason, occurred_at=FRIDAY - timedelta(days=days))


def test_an_account_overdue_elsewhere_gets_nothing_back_at_once_until_billing_says_otherwise() -> None:
    elsewhere = after(used(), standing("frozen", "overdue_elsewhere", 3))
    assert (verdict(elsewhere).outcome, verdict(elsewhere).patterns) == ("refer", ("overdue_elsewhere",))
    assert verdict(after(elsewhere, standing("active", "paid", 2))).outcome == "clear"
    late = after(elsewhere, standing("active", "paid", 4))
    assert verdict(late).patterns == ("overdue_elsewhere",), "an older word changes nothing"
    assert verdict(after(used(), standing("frozen", "overdue", 3))).outcome == "clear"


@pytest.mark.parametrize(("users", "known", "held"), [(1, True, False), (2, True, False), (3, True, True)])
def test_a_funding_account_of_three_customers_is_looked_at(users: int, known: bool, held: bool) -> None:
    fact = verdict(used(users=users))
    assert (fact.outcome == "refer", fact.patterns == ("shared_funding_account",)) == (held, held)


def test_the_customer_who_comes_third_counts_at_the_first_repayment() -> None:
    assert verdict(used(users=1, first_days=None)).outcome == "clear"
    assert verdict(used(users=2, first_days=None)).patterns == ("shared_funding_account",)


def test_a_new_funding_account_and_an_overpayment_together_keep_everything_back() -> None:
    over = settled(amount_minor=6_000, credit_balance_minor=1_000)
    new = used(first_days=29)
    assert verdict(new, over).reasons == (
        Reason.HOLD_NEW_FUNDING_ACCOUNT,
        Reason.HOLD_OVERPAYMENT,
        Reason.HOLD_RAIL_REVERSIBLE,
    )
    assert verdict(new, over).outcome == "observe"
    assert verdict(new).outcome == verdict(used(first_days=30), over).outcome == "clear"
    never = replace(KNOWN, uses={"fund_1": Use("fund_1")})
    assert verdict(never, over).outcome == "observe"
    linked = builders.funding_account_linked(
        funding_account_id="fund_1", verified=False, occurred_at=FRIDAY - timedelta(days=31)
    )
    assert verdict(after(never, linked), over).outcome == "clear", "billing knows it for long"


@pytest.mark.parametrize(
    ("first", "second", "hours", "age", "held"),
    [
        (180_000, 180_000, 23, 100, False),  # 60 % of 600,000 is 360,000: not more
        (180_000, 180_001, 23, 100, True),
        (180_000, 180_001, 24, 100, False),
        (180_000, 180_001, 23, 180, False),
        (180_000, 180_001, 23, 179, True),
    ],
)
def test_two_repayments_in_a_day_over_sixty_per_cent_of_the_limit_on_a_young_account(
    first: int, second: int, hours: int, age: int, held: bool
) -> None:
    young = used(replace(KNOWN, credit=Credit("default", "CNY", NOW - timedelta(days=age))))
    one = settled("r_0", -hours / 24, amount_minor=first, restorable_minor=first)
    state = after(young, one)
    two = settled(amount_minor=second, restorable_minor=second)
    fact = verdict(state, two)
    why = (Reason.HOLD_MULTIPLE_REPAYMENTS, Reason.HOLD_SHORT_HISTORY)
    assert (fact.reasons[:2] == why) is held, fact.reasons
    if held:
        assert all(part.due_at > two.settled_at for part in fact.tranches)
    assert verdict(young, settled(amount_minor=400_000, restorable_minor=400_000)).reasons[:2] != why, "one is no two"


def test_a_rail_that_is_final_knows_no_guard_and_neither_does_the_schedule() -> None:
    warned = after(used(users=3), disputed(1))
    assert verdict(warned, settled(rail="wallet", finality="final")).outcome == "clear"
    plain = profiles()
    assert verdict(warned, policy=plain) == verdict(used(), policy=plain)


def test_a_guard_never_gives_credit_back_sooner_and_is_not_said_where_it_changes_nothing() -> None:
    given = profile(FORMULA)
    asked = Question(
        amount_minor=5_000, restorable_minor=5_000, credit_balance_minor=0, rail="REVERSIBLE", verified=True,
        strikes=0, instant_left_minor=0, settled_minor=0, credit_limit_minor=LIMIT, repaid_at=FRIDAY, now=NOW,
        rail_name="direct_debit", disputes=1,
    )  # fmt: skip
    kept, usual = judge(given, asked), judge(given, replace(asked, disputes=0))
    assert kept.at_once_minor(NOW) == 0
    if kept != usual:
        assert max(part.due_at for part in kept.tranches) >= max(part.due_at for part in usual.tranches)
        assert Reason.HOLD_UNDER_REVIEW in kept.reasons
    pending = replace(asked, rail="PENDING")
    assert judge(given, pending) == judge(given, replace(pending, disputes=0)), "nothing came back at once anyway"


@pytest.mark.parametrize(
    ("days", "due", "why", "referred"),
    [
        (1, "2026-11-24", (Reason.HOLD_RAIL_REVERSIBLE, Reason.HOLD_OVER_INSTANT_CAP), False),
        (2, "2026-11-24", (Reason.HOLD_RAIL_REVERSIBLE,), False),
        (3, "2026-11-25", (Reason.HOLD_UNDER_REVIEW, Reason.HOLD_RAIL_REVERSIBLE), True),
    ],
)
def test_beside_a_formula_that_holds_all_a_guard_counts_where_its_date_is_later_and_a_cap_where_it_alone_delays(
    days: int, due: str, why: tuple[Reason, ...], referred: bool
) -> None:
    """By the formula all of it comes back on Tuesday; by the schedule after so many banking days."""
    schedule = {
        "hold.REVERSIBLE.rest": [{"share_bps": 10_000, "banking_days": days}],
        "hold.REVERSIBLE.verified_funding_account": [{"share_bps": 10_000, "banking_days": 1}],
    }
    asked = Question(
        amount_minor=300_000, restorable_minor=300_000, credit_balance_minor=0, rail="REVERSIBLE", verified=False,
        strikes=0, instant_left_minor=0, settled_minor=0, credit_limit_minor=LIMIT, repaid_at=FRIDAY, now=NOW,
        rail_name="direct_debit", disputes=1,
    )  # fmt: skip
    found = judge(profile({**FORMULA, **schedule}), asked)
    assert [(part.amount_minor, part.due_at) for part in found.tranches] == [(300_000, china(due, "09:00"))]
    assert (found.reasons, found.refer) == (why, referred)


def test_what_a_guard_saw_is_for_the_person_and_the_audit_not_for_the_customer() -> None:
    fact = verdict(after(used(users=3), disputed(1)))
    assert fact.patterns == ("disputed", "shared_funding_account")
    assert dict(fact.inputs)["disputes"] == 1
    assert dict(fact.inputs)["shared_with"] == 2
    (case,) = console_decides(None, Desk(builders.ACCOUNT), fact, moment(NOW)).state.cases.values()
    assert (case.kind, case.detail) == ("referred", "disputed+shared_funding_account")


def test_a_guarded_verdict_is_reached_again_from_its_inputs_and_its_digest_tells_guards_apart() -> None:
    fact = verdict(after(used(users=3), disputed(1)))
    given = profiles(FORMULA).of("default")
    asked = asked_of(given, fact)
    assert asked.digest == fact.inputs_digest
    assert (judge(given, asked).tranches, judge(given, asked).patterns) == (fact.tranches, fact.patterns)
    one, other = replace(asked, disputes=1, lately_count=0), replace(asked, disputes=0, lately_count=1)
    assert one.digest != other.digest


def test_of_several_guards_every_reason_is_said_the_most_important_first_and_only_before_a_formula() -> None:
    asked = Question(
        amount_minor=200_000, restorable_minor=200_000, credit_balance_minor=1, rail="REVERSIBLE", verified=True,
        strikes=0, instant_left_minor=0, settled_minor=0, credit_limit_minor=LIMIT, repaid_at=FRIDAY, now=NOW,
        disputes=1, overdue_elsewhere=True, shared_with=2, new_funding=True, young=True, lately_count=1,
        lately_minor=200_000,
    )  # fmt: skip
    assert fired(profile(FORMULA), asked) == (
        (
            Reason.HOLD_UNDER_REVIEW,
            Reason.HOLD_NEW_FUNDING_ACCOUNT,
            Reason.HOLD_OVERPAYMENT,
            Reason.HOLD_MULTIPLE_REPAYMENTS,
            Reason.HOLD_SHORT_HISTORY,
        ),
        ("disputed", "overdue_elsewhere", "shared_funding_account"),
    )
    assert fired(profile(), asked) == ((), ())
    assert fired(profile(FORMULA), replace(asked, rail="PENDING")) == ((), ())


def seen(state: Account, event: Any = None) -> dict[str, Any]:
    """Return what a verdict's guards were given; what they were not is nothing."""
    given = dict(verdict(state, event).inputs)
    names = ("disputes", "overdue_elsewhere", "shared_with", "new_funding", "young", "lately_count", "lately_minor")
    return {name: given[name] for name in names if name in given}


MOMENT = timedelta(milliseconds=1)


@pytest.mark.parametrize(("later", "counts"), [(timedelta(0), False), (MOMENT, True)])
def test_a_window_s_very_first_instant_is_outside_it(later: timedelta, counts: bool) -> None:
    """Sixty days of a dispute, thirty of a new funding account, a hundred and eighty of a young account."""
    dispute = builders.repayment_disputed(
        source="core", external_ref="earlier", code="R10", occurred_at=NOW - timedelta(days=60) + later
    )
    assert seen(after(used(), dispute)) == ({"disputes": 1} if counts else {})
    first = Use("fund_1", NOW - timedelta(days=30) + later, 1)
    assert seen(replace(KNOWN, uses={"fund_1": first})) == ({"new_funding": True} if counts else {})
    opened = used(replace(KNOWN, credit=Credit("default", "CNY", NOW - timedelta(days=180) + later)))
    assert seen(opened) == ({"young": True} if counts else {})


@pytest.mark.parametrize(
    ("at", "counts"),
    [
        (-timedelta(hours=24), False),
        (-timedelta(hours=24) + MOMENT, True),
        (timedelta(0), True),
        (MOMENT, False),
    ],
)
def test_what_was_repaid_in_the_day_before_counts_and_neither_what_came_later_nor_itself(
    at: timedelta, counts: bool
) -> None:
    state = replace(used(), lately={"r_0": (FRIDAY + at, 700), "r_1": (FRIDAY, 9_000)})
    assert seen(state) == ({"lately_count": 1, "lately_minor": 700} if counts else {})
    both = replace(state, lately={**state.lately, "r_2": (FRIDAY - MOMENT, 50)})
    assert seen(both)["lately_minor"] == (750 if counts else 50)


def test_who_shares_a_funding_account_are_the_others_and_a_repayment_from_nowhere_shares_none() -> None:
    assert seen(used(users=3)) == {"shared_with": 2}
    assert seen(used(users=2, first_days=None)) == {"shared_with": 2, "new_funding": True}
    assert seen(used(users=3), settled(funding_account_id=None)) == {}


def test_a_repayment_is_remembered_with_its_first_use_of_a_funding_account() -> None:
    first = after(replace(KNOWN, uses={"fund_1": Use("fund_1", None, 2)}), settled())
    assert first.uses == {"fund_1": Use("fund_1", FRIDAY, 3)}
    assert first.lately == {"r_1": (FRIDAY, 5_000)}
    again = after(first, settled("r_2", 1, amount_minor=70, restorable_minor=70))
    assert again.uses == first.uses
    assert again.lately == {**first.lately, "r_2": (FRIDAY + timedelta(days=1), 70)}
    assert after(KNOWN, settled()).uses == {"fund_1": Use("fund_1", FRIDAY, 1)}
    nowhere = after(KNOWN, settled(funding_account_id=None))
    assert (nowhere.uses, nowhere.lately) == ({}, {"r_1": (FRIDAY, 5_000)})
    final = after(KNOWN, settled(rail="wallet", finality="final"))
    assert (final.uses, final.lately) == ({}, {})


def test_a_warning_is_kept_by_what_it_is_about_with_its_latest_word_and_its_end() -> None:
    name = repayment_id("core", "earlier")
    warned = after(used(), disputed(9))
    at = FRIDAY - timedelta(days=9)
    assert warned.warned == {f"disputed:{name}": Warned("disputed", name, at)}
    assert after(warned, disputed(10)).warned == after(warned, disputed(9)).warned == warned.warned
    assert after(warned, disputed(8)).warned == {f"disputed:{name}": Warned("disputed", name, at + timedelta(days=1))}
    back = builders.repayment_returned(repayment_id=name, occurred_at=FRIDAY - timedelta(days=1))
    over = after(warned, back)
    assert over.warned == {f"disputed:{name}": Warned("disputed", name, at, FRIDAY - timedelta(days=1))}
    assert after(over, builders.repayment_returned(repayment_id=name, occurred_at=FRIDAY)).warned == over.warned
    assert after(used(), back).warned == {}, "nobody warned of it"


def test_an_account_overdue_elsewhere_is_warned_of_until_another_status_and_an_older_or_equal_word_is_none() -> None:
    def word(ended_days: int | None, days: int = 3) -> dict[str, Warned]:
        ended = None if ended_days is None else FRIDAY - timedelta(days=ended_days)
        return {"overdue_elsewhere:": Warned("overdue_elsewhere", "", FRIDAY - timedelta(days=days), ended)}

    elsewhere = after(used(), standing("frozen", "overdue_elsewhere", 3))
    assert elsewhere.warned == word(None)
    assert after(elsewhere, standing("active", "paid", 3)).warned == word(None)
    assert after(elsewhere, standing("frozen", "overdue", 2)).warned == word(2, 2)
    again = after(elsewhere, standing("active", "paid", 2), standing("frozen", "overdue_elsewhere", 1))
    assert again.warned == word(None, 1)
    assert after(used(), standing("closed", "overdue_elsewhere", 3)).warned == {}


def test_a_warning_alone_is_news_and_what_it_comes_with_stays_so() -> None:
    policy = profiles(FORMULA)
    found = decide(policy, used(), disputed(9), moment(NOW))
    assert (found.outcome, found.reason, found.events) == ("applied", "", ())
    again = decide(policy, found.state, disputed(9), moment(NOW))
    assert (again.outcome, again.state) == ("ignored", found.state)
    frozen = decide(policy, used(), standing("frozen", "overdue_elsewhere", 3), moment(NOW))
    assert (frozen.outcome, frozen.reason) == ("applied", "")


def test_the_bounds_are_those_of_the_profile() -> None:
    calm = profiles({**FORMULA, "hold.REVERSIBLE.guards": {"shared_from": 4}})
    assert verdict(used(users=3), policy=calm).outcome == "clear"
    assert profile().hold["REVERSIBLE"].guards == Guards()
