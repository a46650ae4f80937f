"""Holds decided again: what another policy or table of returns would have changed, from the ledger, reading only."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from deploy.embedded import Part
from services.cli.lag_report import seconds_of
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import (
    EPILOG,
    NOT_FOUND,
    OK,
    USAGE,
    Json,
    Problem,
    print_json,
    stdout,
    working,
)
from services.policy import Profile, Profiles
from services.prior import Prior
from services.profiles import load_profiles, returns
from services.risk_scoring.domain import deciding
from services.risk_scoring.outcomes import Outcome
from services.risk_scoring.store import outcome
from services.risk_training.replay_report import ReplayReport, html
from services.risk_training.replaying import Case, replayed
from services.runtime.postgres import instant
from services.runtime.settings import Settings
from services.values import replace

BOOKS: Final[tuple[Part, ...]] = ("postgres",)
PAGE: Final = 5_000
MOST: Final = 200_000
# A page of repayments assessed in a window whose fast label is known by its end, with when their accounts were opened.
KNOWN = """
SELECT row_to_json(o) AS outcome, to_json(a.opened_at) AS opened_at
FROM risk_scoring.risk_outcome o LEFT JOIN risk_scoring.account a USING (account_id)
WHERE o.repayment_id > $1 AND o.assessed_at >= $2 AND o.assessed_at < $3 AND o.fast_at <= $3
ORDER BY o.repayment_id LIMIT $4
"""
CHAMPION = "SELECT artefact FROM risk_scoring.risk_models WHERE kind = 'return' AND status = 'champion'"
NAMED = "SELECT artefact FROM risk_scoring.risk_models WHERE kind = 'return' AND version = $1"
NOW = "SELECT date_trunc('second', statement_timestamp())"


class Method(StrEnum):
    """What decides on a rail that may take money back."""

    SCHEDULE = "schedule"
    FORMULA = "formula"


@dataclass(frozen=True, slots=True)
class Other:
    """What is to decide instead of the policy in force; None leaves that as it is."""

    policy: Path | None = None
    model: str | Prior | None = None
    method: Method | None = None


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("replay", epilog=EPILOG)(replay)


def replay(
    policy: Annotated[Path | None, typer.Option(help="A folder of profiles that decide instead.")] = None,
    model: Annotated[str | None, typer.Option(help="A table of returns: a version of the registry, or a file.")] = None,
    method: Annotated[Method | None, typer.Option(help="What decides instead, in every profile.")] = None,
    since: Annotated[str, typer.Option(help="How far back, for example 90d.")] = "90d",
    until: Annotated[
        datetime | None, typer.Option(help="UTC; what is known by then counts. Now, if not given.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("replay.html"),
    as_json: Json = False,
) -> int:
    """Decide past repayments again by another policy or table, and write what would have changed as one HTML file."""
    other, seconds = Other(policy, _file(model), method), seconds_of(since)
    with working("deciding again"):
        report = asyncio.run(_read(attached(BOOKS), other, seconds, until))
    if as_json:
        print_json(report.described)
        return OK
    out.write_text(html(report))
    for name, found in sorted(report.found.by_currency.items()):
        told = ", ".join(f"{found.changes[change]:,} {change}" for change in ("sooner", "the same", "later"))
        stdout().print(f"{name}: {found.whole[0].count:,} repayments: {told}", markup=False, soft_wrap=True)
    stdout().print(f"wrote {out}", markup=False, soft_wrap=True)
    return OK


async def _read(settings: Settings, other: Other, seconds: float, until: datetime | None) -> ReplayReport:
    """Read at one instant, in a transaction that may not write."""
    async with connected(settings) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        end = (await connection.fetchval(NOW)) if until is None else until.replace(tzinfo=UTC)
        since = end - timedelta(seconds=seconds)
        in_force = under(load_profiles(settings), await table_of(connection, CHAMPION), None)
        changed = await instead(connection, settings, in_force, other)
        cases = [case async for case in known(connection, since, end)]
    found = replayed(cases, in_force, changed)
    run = made_of(cases, (in_force, changed), since, end)
    return ReplayReport(found, run, end.date())


async def instead(connection: Connection, settings: Settings, in_force: Profiles, other: Other) -> Profiles:
    """Return the policy that is to decide instead."""
    base = in_force
    if other.policy is not None:
        asked = load_profiles(settings.model_copy(update={"policy_dir": other.policy}))
        base = under(asked, next(iter(in_force.by_product.values())).returns, None)
    if missing := in_force.by_product.keys() - base.by_product.keys():
        raise Problem(f"{other.policy} has no profile of {', '.join(sorted(missing))}", NOT_FOUND)
    prior = await _named(connection, other.model) if isinstance(other.model, str) else other.model
    return under(base, prior, other.method)


def under(profiles: Profiles, prior: Prior | None, method: Method | None) -> Profiles:
    """Return profiles with a table of returns and a method; None leaves each as it is."""
    return Profiles({name: _under(one, prior, method) for name, one in profiles.by_product.items()}, profiles.credit)


def _under(profile: Profile, prior: Prior | None, method: Method | None) -> Profile:
    update: dict[str, Any] = {} if prior is None else {"returns": prior}
    if method is not None:
        hold = profile.hold["REVERSIBLE"].model_copy(update={"method": method.value})
        update["hold"] = {"REVERSIBLE": hold}
    return profile.model_copy(update=update)


async def known(connection: Connection, since: datetime, end: datetime) -> AsyncIterator[Case]:
    """Yield what is known of each repayment of a window, by its id; raise Problem where there are too many."""
    last, count = "", 0
    while rows := await connection.fetch(KNOWN, last, since, end, PAGE):
        for row in rows:
            told, opened_at = json.loads(row["outcome"]), row["opened_at"]
            yield Case(by(outcome(told), end), None if opened_at is None else instant(json.loads(opened_at)))
            last, count = told["repayment_id"], count + 1
        if count > MOST:
            raise Problem(f"more than {MOST:,} repayments: ask for a shorter window with --since", USAGE)


def by(told: Outcome, end: datetime) -> Outcome:
    """Return an outcome as it was known at ``end``."""
    if told.returned_at is None or told.returned_at < end:
        return told
    return replace(told, returned_at=None, returned_by=None)


def _file(model: str | None) -> str | Prior | None:
    """Return the table of a file, or a version's name as it is."""
    if model is None or not Path(model).is_file():
        return model
    try:
        return Prior.model_validate_json(Path(model).read_text())
    except (UnicodeDecodeError, ValidationError) as error:
        raise Problem(f"{model} is no table of returns: {str(error).splitlines()[0]}", USAGE) from error


async def _named(connection: Connection, model: str) -> Prior:
    if model == returns().version:
        return returns()
    found = await table_of(connection, NAMED, model)
    if found is None:
        raise Problem(f"{model} is no file and no version of the registry: `otb risk status` lists them", NOT_FOUND)
    return found


async def table_of(connection: Connection, query: str, *arguments: object) -> Prior | None:
    """Return the table of returns a query finds."""
    text = await connection.fetchval(query, *arguments)
    return None if text is None else Prior.model_validate_json(text)


def made_of(cases: list[Case], both: tuple[Profiles, Profiles], since: datetime, end: datetime) -> dict[str, str]:
    """Return what a report was made of: the same of these gives the same bytes."""
    digest = sha256()
    for case in cases:
        digest.update(repr(case).encode())
    products = sorted({case.outcome.product for case in cases} & both[0].by_product.keys())
    return {
        "assessed from": f"{since:%Y-%m-%d %H:%M:%S}Z",
        "known by": f"{end:%Y-%m-%d %H:%M:%S}Z",
        "repayments": f"{len(cases):,}",
        "repayments, sha256": digest.hexdigest(),
        **{
            f"{name}, {product}": _decides(profiles.by_product[product])
            for product in products
            for name, profiles in zip(("in force", "the other"), both, strict=True)
        },
        "opentobuy": version("opentobuy"),
    }


def _decides(profile: Profile) -> str:
    digest = sha256(profile.model_dump_json().encode()).hexdigest()[:16]
    return f"{profile.policy_version} (sha256 {digest}), reversible rails by {deciding(profile, 'REVERSIBLE')}"
