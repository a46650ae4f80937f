"""Ten thousand random decisions: a reason stated, taken out of what was decided on, changes outcome or score."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from math import inf
from random import Random
from typing import Final

from schemas.reasons import Reason
from services.policy import Profile
from services.prior import Feature as Hazardous
from services.profiles import credit_score
from services.risk_scoring.credit import Credit
from services.risk_scoring.domain import judge
from services.risk_scoring.guards import fired
from services.risk_scoring.limits import Answer, answered
from services.risk_scoring.model import WHY, Account, Question, Verdict, features
from services.scorecard import BETTER_WHEN_MORE, FACTOR_OF, TIERS, Scorecard
from services.statements import KEPT_MONTHS, Month
from services.statements import features as statements
from tests import builders
from tests.unit import golden
from tests.unit.given import FRIDAY, profile

HOLDS, REVIEWS = 8_000, 2_000
CHANCE: Final = Random(20261127)  # noqa: S311  # it must be repeatable
SCHEDULE = profile(
    {"hold.REVERSIBLE.large": {"above_minor": 300_000, "rest": [{"share_bps": 10_000, "banking_days": 5}]}}
)
FORMULA = profile({"hold.REVERSIBLE.method": "formula"})
RAILS: Final = {Reason.HOLD_RAIL_REVERSIBLE, Reason.HOLD_RAIL_PENDING}
FEATURE: Final[Mapping[Reason, Hazardous]] = {reason: name for name, reason in WHY.items()}
Change = Callable[[Profile, Question], Question]


def final(_: Profile, asked: Question) -> Question:
    return replace(asked, rail="FINAL")


def without_a_cap(_: Profile, asked: Question) -> Question:
    return replace(asked, instant_left_minor=asked.restorable_minor)


def without_returns(_: Profile, asked: Question) -> Question:
    return replace(asked, strikes=0)


def of_a_usual_amount(given: Profile, asked: Question) -> Question:
    large = given.hold["REVERSIBLE"].large
    return asked if large is None else replace(asked, amount_minor=min(asked.amount_minor, large.above_minor))


def not_looked_at(given: Profile, asked: Question) -> Question:
    """Without the pattern that fired, or without a large amount at risk: a person looks at neither."""
    calm = replace(asked, settled_minor=0, strikes=0, disputes=0, overdue_elsewhere=False, shared_with=0)
    if not judge(given, calm).refer:
        return calm
    return replace(calm, amount_minor=1, restorable_minor=1)


def of_a_known_funding_account(_: Profile, asked: Question) -> Question:
    return replace(asked, new_funding=False)


def of_an_old_account(_: Profile, asked: Question) -> Question:
    return replace(asked, young=False)


WITHOUT: Final[Mapping[Reason, Change]] = {
    Reason.HOLD_RAIL_REVERSIBLE: final,
    Reason.HOLD_RAIL_PENDING: final,
    Reason.HOLD_OVER_INSTANT_CAP: without_a_cap,
    Reason.HOLD_PRIOR_RETURN: without_returns,
    Reason.HOLD_AMOUNT_UNUSUAL: of_a_usual_amount,
    Reason.HOLD_UNDER_REVIEW: not_looked_at,
    Reason.HOLD_NEW_FUNDING_ACCOUNT: of_a_known_funding_account,
    Reason.HOLD_SHORT_HISTORY: of_an_old_account,
}


def questions(count: int) -> Iterator[Question]:
    for _ in range(count):
        limit = CHANCE.choice([100_000, 300_000, 600_000])
        amount = CHANCE.randrange(1, 700_000)
        restorable = max(1, amount - CHANCE.choice([0, 0, 0, CHANCE.randrange(amount + 1)]))
        yield Question(
            amount_minor=amount,
            restorable_minor=restorable,
            credit_balance_minor=CHANCE.choice([0, 0, 5_000]),
            rail=CHANCE.choice(["REVERSIBLE", "REVERSIBLE", "REVERSIBLE", "PENDING", "FINAL"]),
            verified=CHANCE.random() < 0.2,
            strikes=CHANCE.choice([0, 0, 0, 1, 2, 3]),
            instant_left_minor=CHANCE.choice([0, 50_000, 100_000, 300_000]),
            settled_minor=CHANCE.choice([0, 0, limit, 2 * limit]),
            credit_limit_minor=limit,
            repaid_at=FRIDAY - timedelta(hours=CHANCE.choice([0, 0, 0, 60])),
            now=FRIDAY,
            rail_name=CHANCE.choice(["direct_debit", "card", "cheque"]),
            unused_minor=CHANCE.choice([None, 0, 20_000, 500_000]),
            disputes=CHANCE.choice([0] * 9 + [1]),
            overdue_elsewhere=CHANCE.random() < 0.1,
            shared_with=CHANCE.choice([0] * 9 + [1, 2]),
            new_funding=CHANCE.random() < 0.2,
            young=CHANCE.random() < 0.3,
            lately_count=CHANCE.choice([0, 0, 1]),
            lately_minor=CHANCE.choice([0, 200_000]),
        )


def outcome(verdict: Verdict, asked: Question) -> tuple[bool, int, list[tuple[object, int]]]:
    """Return what a customer would notice: whether a person looks, how much is back at once, and when the rest is."""
    later = sorted((max(part.due_at, asked.now), part.amount_minor) for part in verdict.tranches)
    return verdict.refer, verdict.at_once_minor(asked.now), [*later]


def sooner(given: Profile, asked: Question, reason: Reason, stated: frozenset[Reason]) -> bool:
    """Tell whether the outcome hangs on ``reason``: alone, or once others that stand beside it are gone, too."""
    others = [other for other in stated - RAILS - {reason} if other in WITHOUT]
    for size in range(len(others) + 1):
        for gone in combinations(others, size):
            seen = asked
            for other in gone:
                seen = WITHOUT[other](given, seen)
            less = WITHOUT[reason](given, seen)
            before, after = judge(given, seen), judge(given, less)
            if before.held_at(seen.now) and outcome(before, seen) != outcome(after, less):
                return True
    return False


def guarded(given: Profile, asked: Question, reason: Reason) -> bool:
    """Tell whether a guard fires that does not without what the reason speaks of."""
    calm = {
        Reason.HOLD_OVERPAYMENT: replace(asked, credit_balance_minor=0),
        Reason.HOLD_MULTIPLE_REPAYMENTS: replace(asked, lately_count=0),
    }.get(reason)
    return calm is not None and fired(given, asked) != fired(given, calm)


def riskier(given: Profile, asked: Question, reason: Reason) -> bool:
    """Tell whether the expected loss falls when what the reason speaks of is as harmless as can be."""
    name, prior = FEATURE.get(reason), given.formula
    if prior is None or name is None:
        return False
    known = features(asked)
    return prior.hazard(asked.rail_name, {**known, name: 0.0}).at_once < prior.hazard(asked.rail_name, known).at_once


def test_no_hold_states_a_reason_that_it_does_not_hang_on() -> None:
    seen: Counter[Reason] = Counter()
    for n, asked in enumerate(questions(HOLDS)):
        given = FORMULA if n % 2 else SCHEDULE
        verdict = judge(given, asked)
        if not verdict.held_at(asked.now):
            continue
        stated = frozenset(verdict.reasons)
        for reason in stated:
            counts = sooner(given, asked, reason, stated) if reason in WITHOUT else guarded(given, asked, reason)
            assert counts or riskier(given, asked, reason), (reason, verdict.reasons, asked)
            seen[reason] += 1
    assert seen.keys() >= {*WITHOUT, Reason.HOLD_OVERPAYMENT, Reason.HOLD_MULTIPLE_REPAYMENTS}
    assert min(seen.values()) > 20, seen


def accounts(count: int) -> Iterator[Account]:
    for _ in range(count):
        long = CHANCE.choice([2, KEPT_MONTHS, KEPT_MONTHS, KEPT_MONTHS])
        mean = CHANCE.choice([1_000, 15_000, 30_000])
        months = tuple(
            Month(
                0,
                CHANCE.randrange(2 * mean),
                CHANCE.choice([30_000, 100_000]),
                due_day=1,
                paid_minor=CHANCE.randrange(2 * mean),
                late=CHANCE.choice([0] * 20 + [1, 2]),
            )
            for _ in range(long)
        )
        ago = [golden.DECIDED - timedelta(days=days) for days in (10, 100, 300)]
        known = Credit("default", "TWD", golden.OPENED, months, returned_at=CHANCE.choice([None, None, *ago]))
        tier, changed = CHANCE.choice(TIERS[:3]), CHANCE.choice([None, None, None, *ago])
        yield Account(builders.ACCOUNT, CHANCE.choice([30_000, 60_000]), tier=tier, limit_at=changed, credit=known)


REVIEWED = profile(
    {"limit_review.unit_minor": 1, "limit_review.limit_cap_by_tier": dict.fromkeys("ABCDE", 60_000) | {"unknown": 0}}
)
ROOM = dict.fromkeys(("A", "B", "C", "D", "E", "unknown"), 10**9)


def lifted(account: Account, reasons: set[Reason]) -> tuple[Profile, Account]:
    """Return a product and an account to which these conditions do not apply."""
    credit, rules = account.credit, REVIEWED.limit_review
    if Reason.SHORT_HISTORY in reasons:
        credit = replace(credit, months=(credit.months * KEPT_MONTHS)[:KEPT_MONTHS])
    if Reason.LATE_PAYMENTS in reasons:
        credit = replace(credit, months=tuple(month._replace(late=0) for month in credit.months))
    if Reason.RECENT_RETURN in reasons:
        credit = replace(credit, returned_at=None)
    if Reason.LIMIT_AT_CAP in reasons:
        rules = rules.model_copy(update={"limit_cap_by_tier": ROOM})
    limit_at = None if Reason.RECENT_CHANGE in reasons else account.limit_at
    return REVIEWED.model_copy(update={"limit_review": rules}), replace(account, credit=credit, limit_at=limit_at)


CONDITIONS: Final = {
    Reason.SHORT_HISTORY,
    Reason.LATE_PAYMENTS,
    Reason.RECENT_RETURN,
    Reason.RECENT_CHANGE,
    Reason.LIMIT_AT_CAP,
}


def reviewed(given: Profile, account: Account, table: Scorecard) -> Answer:
    return answered(given, table, account, golden.DECIDED, requested=True)


def better(table: Scorecard, account: Account, factor: Reason) -> bool:
    """Tell whether a score rises when everything a factor is made of is at its best."""
    known = statements(account.credit.months, 1)
    best = {name: inf if name in BETTER_WHEN_MORE else -inf for name in known if FACTOR_OF[name] == factor}
    return table.score({**known, **best}) > table.score(known)


def test_no_review_states_a_reason_that_it_does_not_hang_on() -> None:
    table, seen = credit_score(), Counter[Reason]()
    anyone = table.model_copy(update={"threshold": 1})  # nobody lacks points
    for account in accounts(REVIEWS):
        answer = reviewed(REVIEWED, account, table)
        for reason in answer.reasons:
            scored = reason in {factor.reason for factor in answer.factors} and better(table, account, reason)
            assert scored or reason in answer.conditions, (reason, answer)
            if reason in answer.conditions:
                alone = reviewed(*lifted(account, CONDITIONS - {reason}), anyone)
                without = reviewed(*lifted(account, CONDITIONS), anyone)
                assert (alone.outcome, without.outcome) == ("refused", "approved"), (reason, account)
            seen[reason] += 1
        assert len(answer.reasons) <= 4
        assert answer.reasons or answer.outcome == "approved" or answer.refer
    assert seen.keys() >= CONDITIONS | {Reason.SMALL_PAYMENTS, Reason.HIGH_UTILISATION}
