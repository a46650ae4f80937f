"""How does an account stand? What it may spend, its score and why, its months, strikes, what is exposed, its limit."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from deploy.embedded import Part
from schemas.review import LimitIncreaseDecided, PathStep
from services.cli.journey import AMBIGUOUS_MAX, find
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import EPILOG, USAGE, Json, Problem, local, print_json, stdout, table
from services.policy import Profile, Profiles
from services.risk_scoring.limits import Answer, answered
from services.risk_scoring.model import Account, window
from services.risk_scoring.store import account as account_of
from services.risk_scoring.worker import WORKER
from services.runtime.postgres import Row
from services.statements import SCORED_MONTHS, Month
from services.wording import limit_audit, limit_text, money_text, reason_label

BOOKS: Final[tuple[Part, ...]] = ("postgres",)
PREFIX_MIN: Final = 4
# Accounts whose id is this, or begins so.
NAMED = """
SELECT account_id FROM limit_release.account WHERE account_id = $1
UNION SELECT account_id FROM risk_scoring.account WHERE account_id = $1
"""
BEGINS = "SELECT account_id FROM risk_scoring.account WHERE starts_with(account_id, $1) ORDER BY account_id LIMIT 5"
# What limit-release has of an account: its standing and what it may spend.
STANDING = """
SELECT product, currency, status, status_reason, credit_limit_minor, shown_minor, available_minor, used_debt_minor,
  used_authorisation_minor, pending_minor, zero_reason FROM limit_release.account WHERE account_id = $1
"""
WAITING = """
SELECT repayment_id, number, amount_minor, state, until, reason FROM limit_release.tranche
WHERE account_id = $1 AND state IN ('held', 'parked') ORDER BY until NULLS LAST, repayment_id, number LIMIT 50
"""
# What risk-scoring has of it.
SCORED = "SELECT row_to_json(a)::text FROM risk_scoring.account AS a WHERE account_id = $1"
FUNDING = """
SELECT funding_account_id, verified, linked_at FROM risk_scoring.funding_account WHERE account_id = $1 ORDER BY 1
"""
STRIKES = """
SELECT repayment_id, funding_account_id, struck_at FROM risk_scoring.strike WHERE account_id = $1
ORDER BY struck_at DESC LIMIT 50
"""
# What is released today and not final, and when the last of it is.
EXPOSED = """
SELECT coalesce(sum(minor), 0)::bigint AS minor, max(until_on) FILTER (WHERE minor > 0) AS final_on
FROM risk_scoring.exposure WHERE account_id = $1 AND from_on <= (statement_timestamp() AT TIME ZONE 'UTC')::date
  AND until_on >= (statement_timestamp() AT TIME ZONE 'UTC')::date
"""
# What of the instant cap was used since then (R14).
INSTANT = """
SELECT coalesce(sum(instant_minor), 0)::bigint FROM risk_scoring.assessment
WHERE account_id = $1 AND instant_minor > 0 AND assessed_at > $2
"""
# What was last decided of its limit.
DECIDED = """
SELECT convert_from(payload, 'UTF8') FROM risk_scoring.outbox
WHERE account_id = $1 AND event_type LIKE '%.LimitIncreaseDecided.%'
ORDER BY occurred_at DESC, publication_id DESC LIMIT 1
"""
CASES = """
SELECT case_id, kind, priority, state, due_at FROM console.case_file
WHERE account_id = $1 AND state NOT IN ('resolved', 'closed') ORDER BY due_at, case_id
"""
NOW = "SELECT clock_timestamp()"
Named = Annotated[
    str, typer.Argument(metavar="ACCOUNT", help="An id, a unique prefix, or the reference of a repayment of it.")
]


@dataclass(frozen=True, slots=True)
class Whole:
    """What is kept of one account; ``answer`` is what a review of its limit would come to now, if one can be made."""

    account_id: str
    now: datetime
    standing: Row | None
    waiting: Sequence[Row]
    account: Account | None
    profile: Profile | None
    answer: Answer | None
    funding: Sequence[Row]
    strikes: Sequence[Row]
    exposed_minor: int
    final_on: date | None
    instant_used_minor: int
    decided: LimitIncreaseDecided | None
    cases: Sequence[Row]

    def money(self, minor: int) -> str:
        """Return an amount for people, with the account's currency where it is known."""
        told = self.standing["currency"] if self.standing else self.account and self.account.credit.currency
        return money_text(minor, told, "en") if told else f"{minor} minor units"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("account", epilog=EPILOG)(account)


def account(named: Named, as_json: Json = False) -> None:
    """Show how an account stands: credit, score and reasons, months, strikes, exposure, limit, what would help."""
    settings = attached(BOOKS)
    policy = WORKER.policy(settings)

    async def read() -> Whole:
        async with connected(settings) as connection:
            return await whole(connection, policy, await named_account(connection, named))

    found = asyncio.run(read())
    if as_json:
        print_json(described(found))
    else:
        show(stdout(), found)


async def named_account(connection: Connection, named: str) -> str:
    """Return the account of an id, a unique prefix of one, or of a repayment's reference."""
    exact = await connection.fetch(NAMED, named)
    if exact:
        return named
    if len(named) >= PREFIX_MIN:
        begins = [row["account_id"] for row in await connection.fetch(BEGINS, named)]
        if len(begins) > 1:
            more = " and more" if len(begins) == AMBIGUOUS_MAX else ""
            raise Problem(f"{named} is more than one account: {', '.join(begins)}{more}", USAGE)
        if begins:
            return str(begins[0])
    return (await find(connection, named)).account_id


async def whole(connection: Connection, policy: Profiles, account_id: str) -> Whole:
    """Return everything about an account, and what a review of its limit would come to now."""
    kept, now = await connection.fetchval(SCORED, account_id), await connection.fetchval(NOW)
    known = None if kept is None else account_of(json.loads(kept))
    profile = None if known is None else policy.by_product.get(known.credit.product or "")
    exposed = await connection.fetchrow(EXPOSED, account_id)
    since = window(now, hours=0 if profile is None else profile.hold["REVERSIBLE"].window_hours)
    decided = await connection.fetchval(DECIDED, account_id)
    return Whole(
        account_id,
        now,
        standing=await connection.fetchrow(STANDING, account_id),
        waiting=await connection.fetch(WAITING, account_id),
        account=known,
        profile=profile,
        answer=_answer(policy, profile, known, now),
        funding=await connection.fetch(FUNDING, account_id),
        strikes=await connection.fetch(STRIKES, account_id),
        exposed_minor=exposed["minor"] if exposed else 0,
        final_on=exposed["final_on"] if exposed else None,
        instant_used_minor=await connection.fetchval(INSTANT, account_id, since),
        decided=None if decided is None else LimitIncreaseDecided.model_validate_json(decided),
        cases=await connection.fetch(CASES, account_id),
    )


def _answer(policy: Profiles, profile: Profile | None, known: Account | None, now: datetime) -> Answer | None:
    scored = known is not None and known.credit.score is not None and known.credit.closed_at is None
    if policy.credit is None or profile is None or known is None or not scored:
        return None
    return answered(profile, policy.credit, known, now, requested=False)


def described(found: Whole) -> dict[str, Any]:
    """Return an account for programs; amounts in minor units, a score in points."""
    known, rules = found.account, None if found.profile is None else found.profile.hold["REVERSIBLE"]
    cap = None if found.profile is None or known is None else found.profile.instant_cap_by_tier[known.tier]
    return {
        "account_id": found.account_id,
        "standing": None if found.standing is None else dict(found.standing),
        "waiting": [dict(row) for row in found.waiting],
        "tier": "unknown" if known is None else known.tier,
        "score": None if known is None or known.credit.score is None else known.credit.score / 100,
        "months": [] if known is None else [_month(month) for month in known.credit.months if month.due_day],
        "funding_accounts": [dict(row) for row in found.funding],
        "strikes": [dict(row) for row in found.strikes],
        "strikes_count_days": None if rules is None else rules.strikes.days,
        "exposed_minor": found.exposed_minor,
        "exposed_until": found.final_on,
        "instant_cap_minor": cap,
        "instant_left_minor": None if cap is None else max(0, cap - found.instant_used_minor),
        "limit_review": None if found.answer is None else _review(found.answer),
        "next_review_on": None if known is None else known.credit.review_on,
        "last_decision": None if found.decided is None else limit_audit(found.decided),
        "cases": [dict(row) for row in found.cases],
    }


def _month(month: Month) -> dict[str, Any]:
    due_on = date.fromordinal(month.due_day)
    told = {name: value for name, value in month._asdict().items() if name not in ("at_ms", "due_day")}
    return {"due_on": due_on, **told}


def _review(answer: Answer) -> dict[str, Any]:
    return {
        "outcome": answer.outcome,
        "limit_minor": answer.limit_minor,
        "score": answer.score,
        "threshold": answer.threshold,
        "distance": answer.distance,
        "refer": answer.refer,
        "reasons": list(answer.reasons),
        "full_marks": list(answer.full_marks),
        "factors": [factor._asdict() for factor in answer.factors],
        "path": [step._asdict() for step in answer.path],
    }


def show(console: Console, found: Whole) -> None:
    """Print an account for people."""
    for line in (*_standing(found), *_scored(found), *_exposed(found)):
        console.print(line, markup=False)
    if found.account is not None and found.account.credit.statements:
        shown = table("due on", "bill", "minimum", "repaid", "in time", "months late", right=("bill", "repaid"))
        for month in found.account.credit.months:
            if month.due_day:
                amounts = (month.bill_minor, month.minimum_minor, month.paid_minor, month.in_time_minor)
                due_on = date.fromordinal(month.due_day).isoformat()
                shown.add_row(due_on, *[found.money(amount) for amount in amounts], str(month.late))
        console.print(shown)
    for line in (*_limit(found), *_open(found)):
        console.print(line, markup=False)


def _standing(found: Whole) -> Iterator[str]:
    at = found.standing
    yield f"account {found.account_id}{'' if at is None else ' of ' + at['product']}"
    if at is None:
        yield "limit-release does not know it yet"
        return
    why = f" ({at['status_reason']})" if at["status_reason"] else ""
    zero = f", because of {at['zero_reason']}" if at["zero_reason"] else ""
    limit = found.money(at["credit_limit_minor"])
    yield f"{at['status']}{why}: {found.money(at['shown_minor'])} available of {limit}{zero}"
    used = at["used_debt_minor"] + at["used_authorisation_minor"]
    yield f"used {found.money(used)}, repaid and not back yet {found.money(at['pending_minor'])}"
    for row in found.waiting:
        until = f" until {local(row['until'])}" if row["until"] else ""
        part = f"{row['repayment_id'][:12]} part {row['number']}"
        yield f"  {row['state']}{until}: {found.money(row['amount_minor'])} of {part}, {row['reason']}"


def _scored(found: Whole) -> Iterator[str]:
    known = found.account
    if known is None or known.credit.score is None:
        yield "no score yet: tier unknown"
        return
    yield f"score {known.credit.score / 100:.2f}, tier {known.tier}, {known.credit.statements} statements scored"
    if found.answer is not None:
        for factor in found.answer.factors:
            yield f"  {factor.centipoints / 100:+.2f} {factor.reason.value}: {reason_label(factor.reason, 'en')}"


def _exposed(found: Whole) -> Iterator[str]:
    until = f", the last of it until {found.final_on}" if found.final_on else ""
    yield f"released and not final: {found.money(found.exposed_minor)}{until}"
    if found.profile is not None and found.account is not None:
        hold, cap = found.profile.hold["REVERSIBLE"], found.profile.instant_cap_by_tier[found.account.tier]
        left = max(0, cap - found.instant_used_minor)
        yield f"instant cap: {found.money(left)} left of {found.money(cap)} in {hold.window_hours} hours"
    for row in found.funding:
        strikes = [each for each in found.strikes if each["funding_account_id"] == row["funding_account_id"]]
        word = "verified" if row["verified"] else "not verified"
        yield f"funding account {row['funding_account_id']}: {word}, {len(strikes)} strikes"
    for row in found.strikes:
        yield f"  strike {local(row['struck_at'])}: {row['repayment_id'][:12]} from {row['funding_account_id']}"


def _limit(found: Whole) -> Iterator[str]:
    known, answer = found.account, found.answer
    if known is not None and known.credit.review_on is not None:
        yield f"limit reviewed next on {known.credit.review_on}"
    if answer is not None:
        looks = ", a person looks" if answer.refer else ""
        yield (
            f"reviewed now: {answer.outcome}{looks}, limit {found.money(answer.limit_minor)}, "
            f"score {answer.score} of {answer.threshold}, {answer.distance} missing"
        )
        for reason in answer.reasons:
            yield f"  {reason.value}: {reason_label(reason, 'en')}"
        for step in answer.path:
            yield f"  {_way(found, step)}: about {step.score}"
    if found.decided is not None:
        yield f"last decision, {local(found.decided.occurred_at)}: {limit_text(found.decided, language='en')}"


def _way(found: Whole, step: PathStep) -> str:
    words = []
    if step.payment_share_bps is not None:
        payment = found.money(step.payment_minor or 0)
        words.append(
            f"repaying {step.payment_share_bps // 100} % of the bill ({payment} now) for {SCORED_MONTHS} months"
        )
    if step.use_bps is not None:
        words.append(f"using at most {step.use_bps // 100} % of the limit")
    return " and ".join(words)


def _open(found: Whole) -> Iterator[str]:
    for row in found.cases:
        late = " OVERDUE" if row["due_at"] < found.now else ""
        yield f"case {row['case_id'][:12]} {row['kind']} {row['state']}, due {local(row['due_at'])}{late}"
