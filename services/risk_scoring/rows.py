"""What risk-scoring writes of a batch, as rows: what changed between the accounts read and the accounts decided."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import chain
from typing import Any, TypeVar

from services.risk_scoring.model import Account, Assessment
from services.risk_scoring.outcomes import Outcome, changed
from services.risk_scoring.trials import Comparison, Slot, Tally, came_back, counted, place_of, summed

T = TypeVar("T")


def warned(changes: Sequence[tuple[Account, Account]]) -> tuple[object, ...]:
    """Return what billing warned of, and the funding accounts that were used for the first time."""
    words = [(after.account_id, *one) for before, after in changes for one in news(before.warned, after.warned)]
    uses = [
        (one.name, after.account_id, one.first_at)
        for before, after in changes
        for one in news(before.uses, after.uses)
        if one.first_at is not None
    ]
    return (words or None, sorted(uses) or None)


def became(changes: Sequence[tuple[Account, Account]]) -> tuple[object, ...]:
    """Return the outcomes that changed, and by how much the exposure did: of accounts, and of everything."""
    outcomes: list[tuple[object, ...]] = []
    accounts: Counter[tuple[str, date, date]] = Counter()
    portfolio: Counter[tuple[str, date, date]] = Counter()
    for before, after in changes:
        for one in news(before.outcomes, after.outcomes):
            outcomes.append(_outcome(one))
            for (since, until), minor in changed(before.outcomes.get(one.repayment_id), one).items():
                accounts[one.account_id, until, since] += minor
                portfolio[one.product, until, since] += minor
    by_account = [(*at, minor) for at, minor in sorted(accounts.items()) if minor]
    of_all = [(*at, 0, minor) for at, minor in sorted(portfolio.items()) if minor]
    return (outcomes or None, by_account or None, of_all or None)


def tried(changes: Sequence[tuple[Account, Account]]) -> tuple[object, ...]:
    """Return the sample of what was compared, the first of each place; what is counted, and what is ended."""
    compared = [one for before, after in changes for one in news(before.compared, after.compared)]
    watched = [one for before, after in changes for one in news(before.watched, after.watched)]
    found: list[tuple[Slot, Tally]] = [counted(one) for one in chain(compared, watched)]
    for before, after in changes:
        outcomes = news(before.outcomes, after.outcomes)
        for named in after.counted_of:
            tallies = [came_back(*named, before.outcomes.get(one.repayment_id), one) for one in outcomes]
            found += [tally for tally in tallies if tally is not None]
    sample = {row[0]: row for row in map(_comparison, reversed(compared))}
    sums = [(*slot, 0, *tally) for slot, tally in summed(found).items()]
    kept = [sample[place] for place in sorted(sample)]
    asked = [each for _, after in changes[:1] for each in (after.trial, after.watch)]
    ends = [(one.version, one.began_at, *one.broken, None) for one in asked if one is not None and one.broken]
    return (kept or None, sums or None, ends or None)


def credit_columns(state: Account) -> tuple[object, ...]:
    """Return the columns of how an account was used and repaid, and of what was moved early."""
    one = state.credit
    figures = list(chain.from_iterable(one.months))
    scored = (figures, one.score, state.tier)
    since = (one.returned_at, one.refused_at, one.closed_at)
    early = json.dumps(state.early) if state.early else "{}"
    return (one.product, one.currency, one.opened_at, *scored, *since, one.review_on, one.reviews, early)


def assessment_row(account_id: str, one: Assessment) -> tuple[object, ...]:
    """Return the columns of what was assessed of a repayment, with its hold as long as that runs."""
    until = None if one.hold is None else max(tranche.due_at for tranche in one.hold.tranches)
    hold = None if one.hold is None else one.hold.model_dump_json()
    when = (one.assessed_at, one.instant_minor, hold, until, one.repaid_at)
    return (one.repayment_id, account_id, one.funding_account_id, *when)


def news(before: Mapping[str, T], after: Mapping[str, T]) -> Iterable[T]:
    """Return what of a mapping's values is new: another object than before."""
    return [value for name, value in after.items() if value is not before.get(name)]


def _outcome(one: Outcome) -> tuple[object, ...]:
    parts = json.dumps([(part.minor, part.from_on.isoformat()) for part in one.parts])
    return tuple({**one.__dict__, "parts": parts, "inputs": json.dumps(one.inputs)}.values())


def _comparison(one: Comparison) -> tuple[Any, ...]:
    said = (*one.champion, *one.candidate)
    about = [value for name, value in one.__dict__.items() if name not in ("champion", "candidate")]
    return (place_of(one.repayment_id, one.assessed_at), *about, *said)
