"""What each way of giving a repayment back was expected to cost when it was decided, and which one was taken."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import typer

from deploy.embedded import Part
from schemas.risk import RiskAssessed
from services.cli.journey import find
from services.cli.look import Named
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import EPILOG, FOUND, NOT_FOUND, OK, Json, Problem, print_json, stdout
from services.policy import Profile, Profiles
from services.prior import Prior
from services.profiles import load_profiles
from services.risk_scoring.hazard import actions, held_until
from services.risk_scoring.model import Table, features
from services.risk_scoring.view import asked_of
from services.wording import money_text, reason_label

BOOKS: Final[tuple[Part, ...]] = ("postgres",)
# What was first told of an account's repayments, with the table of returns it names where the registry has it.
TOLD = """
SELECT convert_from(o.payload, 'UTF8') AS fact, m.artefact
FROM risk_scoring.outbox o LEFT JOIN risk_scoring.risk_models m
  ON m.kind = 'return' AND m.version = convert_from(o.payload, 'UTF8')::json ->> 'model_version'
WHERE o.account_id = $1 AND position($2::bytea IN o.payload) > 0 AND o.event_type LIKE '%.RiskAssessed.%'
ORDER BY o.occurred_at, o.publication_id, o.n
"""


class Price(NamedTuple):
    """Give ``now_minor`` back at once and the rest after ``days`` banking days: expected to cost ``cost_minor``."""

    now_minor: int
    days: int
    cost_minor: float
    taken: bool


class Priced(NamedTuple):
    """A verdict with the price of each way, cheapest first; none where no price was asked."""

    fact: RiskAssessed
    prices: tuple[Price, ...]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("price", epilog=EPILOG)(price)


def price(repayment: Named, as_json: Json = False) -> int:
    """Show what each way of giving a repayment back was expected to cost, and which was taken; 1 without a price."""
    settings = attached(BOOKS)
    profiles = load_profiles(settings)

    async def read() -> Priced | None:
        async with connected(settings) as connection:
            found = await find(connection, repayment)
            return await priced(connection, profiles, found.account_id, found.repayment_id)

    found = asyncio.run(read())
    if found is None:
        raise Problem(f"risk-scoring has not decided on {repayment}", NOT_FOUND)
    if as_json:
        print_json(described(found))
    else:
        for line in price_lines(found):
            stdout().print(line, markup=False, soft_wrap=True)
    return OK if found.prices else FOUND


async def priced(connection: Connection, profiles: Profiles, account_id: str, repayment_id: str) -> Priced | None:
    """Return the first verdict on a repayment with its prices, None without one."""
    for row in await connection.fetch(TOLD, account_id, repayment_id.encode()):
        fact = RiskAssessed.model_validate_json(row["fact"])
        if fact.repayment_id == repayment_id:
            profile = profiles.of(fact.product)
            if row["artefact"] is not None:
                profile = Table(Prior.model_validate_json(row["artefact"])).under(profile)
            return Priced(fact, tuple(sorted(prices_of(profile, fact), key=lambda one: one.cost_minor)))
    return None


def prices_of(profile: Profile, fact: RiskAssessed) -> Iterator[Price]:
    """Yield the price of giving all back, and of the cheapest part and hold; of both the one that was taken.

    Only where a formula decided with the policy that is in force, on a rail that may take money back.
    """
    prior, rail = profile.formula, profile.rail(fact.rail).rail_class
    if prior is None or rail != "REVERSIBLE" or not fact.restorable_minor:
        return
    if (profile.policy_version, prior.version) != (fact.policy_version, fact.model_version):
        return
    asked, prices = asked_of(profile, fact), profile.hold["REVERSIBLE"].prices
    amount, most = asked.restorable_minor, min(1.0, asked.instant_left_minor / asked.restorable_minor)
    kinds = prior.chances(asked.rail_name, features(asked))
    ways = list(actions(kinds, prices, amount, asked.unused_minor or 0, most))
    for alike in (_all, _part, _none):
        found = [way for way in ways if alike(way.share)]
        if found:
            best = min(found, key=lambda way: way.cost)
            now = asked.instant_left_minor if best.share == most else int(best.share * amount)
            yield Price(now, best.days, best.cost, taken=_course(profile, fact, now, best.days) == _told(fact))


def _all(share: float) -> bool:
    return share == 1


def _part(share: float) -> bool:
    return 0 < share < 1


def _none(share: float) -> bool:
    return share == 0


def _course(profile: Profile, fact: RiskAssessed, now_minor: int, days: int) -> list[tuple[int, Any]]:
    rest = fact.restorable_minor - min(now_minor, fact.restorable_minor)
    parts = [(min(now_minor, fact.restorable_minor), None), (rest, held_until(profile, fact.repaid_at, days))]
    return [part for part in parts if part[0]]


def _told(fact: RiskAssessed) -> list[tuple[int, Any]]:
    return [(part.amount_minor, None if part.due_at <= fact.occurred_at else part.due_at) for part in fact.tranches]


def price_lines(found: Priced) -> Sequence[str]:
    """Return a verdict's prices and reasons as lines for a person."""
    fact = found.fact
    reasons = ", ".join(f"{reason.value} ({reason_label(reason, 'en')})" for reason in fact.reasons)
    if not found.prices:
        return [f"no price was asked; reasons: {reasons}"]
    ways = "; ".join(_way(fact, one) for one in found.prices)
    other = "" if any(one.taken for one in found.prices) else "; a guard or a cap decided otherwise"
    return [f"expected cost: {ways}{other}", f"reasons: {reasons}"]


def _way(fact: RiskAssessed, one: Price) -> str:
    cost = money_text(round(one.cost_minor), fact.currency, "en")
    days = f"{one.days} banking day{'' if one.days == 1 else 's'}"
    if not one.days:
        way = "all at once"
    elif one.now_minor:
        way = f"{money_text(one.now_minor, fact.currency, 'en')} at once and the rest after {days}"
    else:
        way = f"all after {days}"
    return f"{way} {cost}{', taken' if one.taken else ''}"


def described(found: Priced) -> dict[str, Any]:
    """Return a verdict's prices for programs; amounts in minor units."""
    fact = found.fact
    return {
        "repayment_id": fact.repayment_id,
        "outcome": fact.outcome,
        "reasons": fact.reasons,
        "restorable_minor": fact.restorable_minor,
        "policy_version": fact.policy_version,
        "model_version": fact.model_version,
        "ways": [one._asdict() for one in found.prices],
    }
