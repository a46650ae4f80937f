"""What a candidate came to, read from the registry's books, and which checks it passes (risk_training/promotion.py)."""

import json
from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import Any, Final, Literal

from services.cli.servers import Connection
from services.cli.terminal import NOT_FOUND, Problem
from services.policy import Profile, Profiles
from services.prior import ANY_RAIL, Prior
from services.profiles import load_profiles, returns
from services.risk_scoring.domain import judge
from services.risk_scoring.model import Question, Table, features
from services.risk_scoring.trials import Said, Stage
from services.risk_training.promotion import Check, Load, Matured, to_canary, to_force
from services.runtime.clock import monotonic
from services.runtime.settings import Settings

ROWS: Final = 5_000
TIMED: Final = 200
Aim = Literal["canary", "champion"]
ARTEFACTS: Final = """
SELECT version, artefact, status, activated_at FROM risk_scoring.risk_models
WHERE kind = 'return' AND (version = $1 OR status = 'champion')
"""
# The sample's matured repayments since the model in force is in force, the newest first.
MATURED: Final = """
SELECT c.*, o.rail, o.tier, o.product, o.amount_minor, o.credit_balance_minor, o.repaid_at, o.inputs,
  CASE WHEN o.returned_at < o.fast_until THEN o.returned_at END AS returned_at
FROM risk_scoring.risk_comparison c JOIN risk_scoring.risk_outcome o USING (repayment_id)
WHERE c.version = $1 AND o.fast_at <= clock_timestamp() AND o.returned_by IS DISTINCT FROM 'issuer'
  AND c.assessed_at > coalesce((SELECT max(activated_at) FROM risk_scoring.risk_activation
    WHERE kind = 'return' AND became = 'champion'), '-infinity')
ORDER BY c.assessed_at DESC LIMIT $2
"""
# What a canary came to, by age in days, as risk-scoring asks it with every batch.
STAGES: Final = """
SELECT age, lately, champion_held, candidate_held, expected, returned FROM risk_scoring.risk_trial_stage
WHERE version = $1 AND began_at = $2
"""
EXPOSED: Final = """
SELECT product, sum(minor)::bigint AS minor FROM risk_scoring.portfolio_exposure
WHERE from_on <= (now() AT TIME ZONE 'UTC')::date AND until_on >= (now() AT TIME ZONE 'UTC')::date GROUP BY 1
"""
NOW: Final = "SELECT clock_timestamp()"
STOPPED: Final = "SELECT count(*) FROM risk_scoring.risk_trial_stop WHERE version = $1 AND began_at = $2"


def absent(version: str) -> Problem:
    """Return what is said of a version that the registry does not have."""
    return Problem(f"no return model {version} in the registry: `otb risk status` lists them", NOT_FOUND)


async def checked(connection: Connection, settings: Settings, version: str, aim: Aim) -> tuple[Check, ...]:
    """Return what must be so before ``version`` may become ``aim``; raise Problem when it is not in the registry."""
    found = {row["version"]: row for row in await connection.fetch(ARTEFACTS, version)}
    if version not in found:
        raise absent(version)
    champion = next((Table(_prior(row)) for row in found.values() if row["status"] == "champion"), Table(returns()))
    candidate, profiles = Table(_prior(found[version])), load_profiles(settings)
    rows = await connection.fetch(MATURED, version, ROWS)
    matured = [_matured(row, champion.prior) for row in rows]
    profile = _most_of(profiles, rows)
    load = await _load(connection, profile, candidate, rows)
    prices = profile.hold["REVERSIBLE"].prices
    if aim == "canary":
        return to_canary(matured, prices, load)
    canary = await _canary(connection, found[version])
    survivor = candidate.prior.bank.survivor[ANY_RAIL]
    return to_force(matured, prices, load, canary, survivor, await connection.fetchval(NOW))


async def _canary(connection: Connection, row: Any) -> tuple[datetime, Sequence[Stage]] | None:
    """Return since when a model is a canary, and what it came to; None when it is none, or ended by itself."""
    named = (row["version"], row["activated_at"])
    if row["status"] != "canary" or await connection.fetchval(STOPPED, *named):
        return None
    return row["activated_at"], [Stage(**dict(each)) for each in await connection.fetch(STAGES, *named)]


async def _load(connection: Connection, profile: Profile, candidate: Table, rows: Sequence[Any]) -> Load:
    exposed = {row["product"]: row["minor"] for row in await connection.fetch(EXPOSED)}
    budget = profile.hold["REVERSIBLE"].exposure.portfolio_max_minor
    return Load(_seconds(candidate.under(profile), rows[:TIMED]), exposed.get(profile.product, 0), budget)


def _seconds(profile: Profile, rows: Sequence[Any]) -> float:
    """Return the median seconds of a verdict by the candidate, asked once before so that it is as in a worker."""
    took = []
    for asked in map(_question, rows):
        judge(profile, asked)
        began = monotonic()
        judge(profile, asked)
        took.append(monotonic() - began)
    return median(took) if took else 0.0


def _matured(row: Any, champion: Prior) -> Matured:
    """Return a row of the sample; what a return costs is by the model in force, the same for both verdicts."""
    asked = _question(row)
    chance = champion.bank.chance(row["rail"], features(asked))
    champions, candidates = (
        Said(*[row[f"{who}_{name}"] for name in Said._fields]) for who in ("champion", "candidate")
    )
    groups = (f"tier {row['tier']}", f"rail {row['rail']}")
    about = (row["assessed_at"], groups, row["restorable_minor"], asked.unused_minor or 0)
    return Matured(*about, champions, candidates, row["returned_at"], chance.respent * chance.lost)


def _question(row: Any) -> Question:
    given = dict(json.loads(row["inputs"]))
    return Question(
        amount_minor=row["amount_minor"],
        restorable_minor=row["restorable_minor"],
        credit_balance_minor=row["credit_balance_minor"],
        rail="REVERSIBLE",
        repaid_at=row["repaid_at"],
        now=row["assessed_at"],
        rail_name=row["rail"],
        tier=row["tier"],
        **given,
    )


def _most_of(profiles: Profiles, rows: Sequence[Any]) -> Profile:
    """Return the profile most rows are of: its prices weigh, its budget bounds."""
    names = [row["product"] for row in rows if row["product"] in profiles.by_product] or ["default"]
    return profiles.of(max(sorted(set(names)), key=names.count))


def _prior(row: Any) -> Prior:
    return Prior.model_validate_json(row["artefact"])
