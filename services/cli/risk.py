"""Risk decisions: reach one again from what was stored with it, and compare byte by byte; and which model decides."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import typer

from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentSettled
from services.cli import challenger, drifting, hindsight, hold_yield, learning, models, policy_search, pricing, relief
from services.cli.journey import find
from services.cli.look import Named
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import EPILOG, FOUND, NOT_FOUND, OK, Json, Problem, print_json, stdout, table
from services.policy import Profile, Profiles
from services.prior import Prior
from services.profiles import load_profiles
from services.risk_scoring.domain import deciding
from services.risk_scoring.model import Table
from services.risk_scoring.view import revised_again, told_again
from services.runtime.codec import encode

app = typer.Typer(
    help="Risk decisions: how they came about, and which model makes them.", no_args_is_help=True, epilog=EPILOG
)
models.register(app)
learning.register(app)
hindsight.register(app)
hold_yield.register(app)
policy_search.register(app)
pricing.register(app)
drifting.register(app)
challenger.register(app)
app.add_typer(relief.app, name="relief")
# Every verdict on a repayment as it was told, first to last, with the settlement the first one is about.
TOLD = """
SELECT convert_from(o.payload, 'UTF8') AS fact, convert_from(s.payload, 'UTF8') AS settled
FROM risk_scoring.outbox o
LEFT JOIN settlement.outbox s ON s.account_id = o.account_id
  AND s.event_id = (convert_from(o.payload, 'UTF8')::json ->> 'caused_by')::uuid
WHERE o.account_id = $1 AND position($2::bytea IN o.payload) > 0 AND o.event_type LIKE '%.RiskAssessed.%'
ORDER BY o.occurred_at, o.publication_id, o.n
"""
# The tables of returns that decisions name.
NAMED = "SELECT version, artefact FROM risk_scoring.risk_models WHERE kind = 'return' AND version = ANY($1::text[])"
SAME: Final = "the same bytes"


@dataclass(frozen=True, slots=True)
class Replayed:
    """One stored verdict, and what deciding it again gave; ``differs`` names the fields that are not the same."""

    revision: int
    decided_at: str
    outcome: str
    policy_version: str
    model_version: str
    inputs: dict[str, Any]
    inputs_digest: str | None
    same: bool
    differs: tuple[str, ...] = ()
    why: str = SAME


def register(otb: typer.Typer) -> None:
    """Add this module's commands."""
    otb.add_typer(app, name="risk")


@app.command("replay-decision", epilog=EPILOG)
def replay_decision(repayment: Named, as_json: Json = False) -> int:
    """Reach each verdict on a repayment again from its stored inputs; 1 when the bytes differ or cannot be reached."""
    settings = attached()
    profiles = load_profiles(settings)

    async def read() -> tuple[str, list[Replayed]]:
        async with connected(settings) as connection:
            found = await find(connection, repayment)
            return found.repayment_id, await replays(connection, profiles, found.account_id, found.repayment_id)

    at, found = asyncio.run(read())
    if not found:
        raise Problem(f"risk-scoring has not decided on {repayment}", NOT_FOUND)
    if as_json:
        print_json({"repayment_id": at, "decisions": [asdict(each) for each in found]})
    else:
        shown = table("revision", "decided at", "outcome", "policy", "model", "inputs", "decided again")
        for each in found:
            versions = (each.policy_version, each.model_version, (each.inputs_digest or "-")[:12])
            differs = f"differs in {', '.join(each.differs)}" if each.differs else each.why
            shown.add_row(str(each.revision), each.decided_at, each.outcome, *versions, differs)
        stdout().print(shown)
    return OK if all(each.same for each in found) else FOUND


async def replays(connection: Connection, profiles: Profiles, account_id: str, repayment_id: str) -> list[Replayed]:
    """Decide again on everything risk-scoring told of a repayment."""
    rows = await connection.fetch(TOLD, account_id, repayment_id.encode())
    read = [(row["fact"], RiskAssessed.model_validate_json(row["fact"]), row["settled"]) for row in rows]
    stories = [each for each in read if each[1].repayment_id == repayment_id]
    named = await connection.fetch(NAMED, sorted({fact.model_version for _, fact, _ in stories}))
    tables = {row["version"]: Table(Prior.model_validate_json(row["artefact"])) for row in named}
    before: Sequence[RiskAssessed | None] = [None, *(fact for _, fact, _ in stories)]
    return [
        _replayed(_pinned(profiles, tables, fact), text, fact, was if fact.revision else settled)
        for (text, fact, settled), was in zip(stories, before, strict=False)
    ]


def _pinned(profiles: Profiles, tables: Mapping[str, Table], fact: RiskAssessed) -> Profile:
    """Return the profile with the table of returns that a decision names; without one in the registry, the shipped."""
    profile, table_named = profiles.of(fact.product), tables.get(fact.model_version)
    return profile if table_named is None else table_named.under(profile)


def _replayed(profile: Profile, text: str, fact: RiskAssessed, cause: RiskAssessed | str | None) -> Replayed:
    again, why = _again(profile, fact, cause)
    same = again is not None and encode(again).payload == text.encode()
    names = RiskAssessed.model_fields
    differs = [name for name in names if again is not None and getattr(again, name) != getattr(fact, name)]
    told = (fact.revision, fact.occurred_at.isoformat(), fact.outcome, fact.policy_version, fact.model_version)
    return Replayed(*told, dict(fact.inputs), fact.inputs_digest, same, tuple(differs), why if again is None else SAME)


def _again(profile: Profile, fact: RiskAssessed, cause: RiskAssessed | str | None) -> tuple[RiskAssessed | None, str]:
    """Return the verdict reached once more, or None and why it cannot be."""
    here = (profile.policy_version, deciding(profile, profile.rail(fact.rail).rail_class), profile.banking.name)
    if here != (fact.policy_version, fact.model_version, fact.calendar_version):
        return None, f"other versions are in force: {', '.join(here)}"
    if isinstance(cause, RiskAssessed):
        return revised_again(profile, cause, fact), "no date would be earlier now"
    if cause is None:
        return None, "what it is about is not in settlement's books"
    try:
        return told_again(profile, fact, RepaymentSettled.model_validate_json(cause)), SAME
    except KeyError as error:
        return None, f"its input {error.args[0]} was not stored: an older version decided"
