"""Which return model decides, and changing it: every batch reads it with its accounts, so a change needs no restart."""

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from pydantic import ValidationError

from deploy.embedded import Part
from services.cli.actor import Actor, Why, referenced
from services.cli.evidence import Aim, absent, checked
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import EPILOG, FOUND, NOT_FOUND, OK, USAGE, Json, Problem, print_json, stdout
from services.cli.trials import ALONE, IN_FORCE, NOTE, Tried, allowed, begun, ended, show, show_checks, show_rows, tried
from services.prior import Prior
from services.profiles import returns
from services.risk_training.promotion import Check
from services.runtime.settings import Settings

SCHEMA_VERSION: Final = 1
BOOKS: Final[tuple[Part, ...]] = ("postgres",)
SHOWN: Final = 10
# Every model of the registry.
MODELS = """
SELECT version, status, sha256, approved_by, activated_at FROM risk_scoring.risk_models WHERE kind = 'return'
ORDER BY status = 'champion' DESC, activated_at DESC NULLS LAST, version
"""
# The last changes of the registry, the newest first.
CHANGES = """
SELECT version, became, goes_back, unproven, actor, reason, activated_at FROM risk_scoring.risk_activation
WHERE kind = 'return' ORDER BY id DESC LIMIT $1
"""
# What decided before what decides now; no version: the shipped table.
BEFORE = "SELECT risk_scoring.decided_before($1, false)"
# What was ended by a rule it broke, on trial or in force, the newest first.
STOPPED = """
SELECT version, began_at, rule, figures, stopped_at FROM risk_scoring.risk_trial_stop ORDER BY stopped_at DESC LIMIT $1
"""
ADD = """
INSERT INTO risk_scoring.risk_models (kind, version, sha256, artefact, schema_version, status)
VALUES ('return', $1, $2, $3, $4, 'challenger') ON CONFLICT DO NOTHING RETURNING version
"""
RETIRE = "UPDATE risk_scoring.risk_models SET status = 'retired' WHERE kind = 'return' AND status = 'champion'"
CROWN = """
UPDATE risk_scoring.risk_models SET status = 'champion', approved_by = $2, activated_at = clock_timestamp()
WHERE kind = 'return' AND version = $1 RETURNING version
"""
WENT_BACK = """
INSERT INTO risk_scoring.risk_activation (kind, version, became, actor, reason, goes_back)
VALUES ('return', $1, 'champion', $2, $3, true)
"""
SHIPPED: Final = "(shipped)"
"""How the table that comes with the program is named where a version is shown."""


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (status, add, shadow, canary, checks, stop, promote, rollback):
        app.command(command.__name__, epilog=EPILOG)(command)


def status(as_json: Json = False) -> int:
    """Show which return model decides where a profile's method is the formula, what is tried, and who changed it.

    What broke a rule ended by itself: a trial, or a model in its first 14 days in force, which went one step back.
    """
    models, changes, stopped, trial = asyncio.run(_known(attached(BOOKS)))
    champion = next((model for model in models if model["status"] == "champion"), None)
    in_force = champion["version"] if champion else returns().version
    if as_json:
        told = {"models": models, "changes": changes, "stopped": stopped, "trial": trial}
        print_json({"in_force": in_force, "shipped": champion is None, **told})
        return OK
    stdout().print(f"return model in force: {in_force}{'' if champion else ' ' + SHIPPED}", markup=False)
    show_rows("registry", models)
    show_rows("changes, newest first", changes)
    show_rows("ended by a rule", stopped)
    show(trial)
    return OK


def add(file: Annotated[Path, typer.Argument(help="A table of returns as JSON.")], as_json: Json = False) -> int:
    """Check a table of returns and keep it in the registry as a challenger; it decides nothing yet."""
    try:
        text = file.read_text()
        prior = Prior.model_validate_json(text)
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{file}: {error}", NOT_FOUND) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Problem(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}", USAGE) from error
    if prior.version == returns().version:
        raise Problem(f"{file}: {prior.version} is the shipped table's version: name it otherwise", USAGE)
    kept = asyncio.run(_add(attached(BOOKS), prior.version, text))
    words = "kept as a challenger" if kept else "is in the registry already: another table needs another version"
    return _tell({"version": prior.version, "changed": kept}, f"{prior.version}: {words}", as_json=as_json)


Unproven = Annotated[bool, typer.Option("--unproven", help="Although the checks do not allow it; this is kept.")]
Version = Annotated[str, typer.Argument(help="A version of the registry.")]


def shadow(version: Version, actor: Actor, reason: Why, as_json: Json = False) -> int:
    """Let a model judge beside the one in force, without effect; what both say is compared in `otb risk status`."""
    return _try(version, "shadow", actor, reason, unproven=False, as_json=as_json)


def canary(version: Version, actor: Actor, reason: Why, unproven: Unproven = False, as_json: Json = False) -> int:
    """Let a model decide for 5 % of the accounts, always the same ones; each decision names the model that made it."""
    return _try(version, "canary", actor, reason, unproven=unproven, as_json=as_json)


def checks(
    version: Version,
    aim: Annotated[str, typer.Option("--for", help="What it shall become: canary or champion.")] = "canary",
    as_json: Json = False,
) -> int:
    """Say what must be so before a model may decide for 5 % of the accounts, or for all; 1 when it is not all so."""
    if aim not in ("canary", "champion"):
        raise Problem("--for is canary or champion", USAGE)
    found = asyncio.run(_checks(attached(BOOKS), version, "canary" if aim == "canary" else "champion"))
    if as_json:
        print_json([check._asdict() for check in found])
    else:
        show_checks(found)
    return OK if all(check.passed for check in found) else FOUND


def stop(actor: Actor, reason: Why, as_json: Json = False) -> int:
    """End the trial: from the next batch on the model in force decides for every account, and nothing is compared."""
    referenced(actor, "--actor")
    referenced(reason, "--reason")
    version = asyncio.run(ended(attached(BOOKS), actor, reason))
    if version is None:
        raise Problem("no model is tried", FOUND)
    return _tell({"version": version, "changed": True}, f"{version} is tried no more", as_json=as_json)


def _try(
    version: str, became: Literal["shadow", "canary"], actor: str, reason: str, *, unproven: bool, as_json: bool
) -> int:
    referenced(actor, "--actor")
    referenced(reason, "--reason")
    asyncio.run(begun(attached(BOOKS), version, became, actor, reason, unproven=unproven))
    words = {"shadow": "judges beside, without effect", "canary": "decides for 5 % of the accounts"}[became]
    return _tell({"version": version, "became": became, "changed": True}, f"{version} {words}", as_json=as_json)


def promote(version: Version, actor: Actor, reason: Why, unproven: Unproven = False, as_json: Json = False) -> int:
    """Put a model in force: from its commit on every batch decides by it, and each decision names it."""
    before, after = _change(version, actor, reason, unproven=unproven)
    return _tell({"before": before, "in_force": after, "changed": True}, f"{after} decides", as_json=as_json)


def rollback(actor: Actor, reason: Why, as_json: Json = False) -> int:
    """Put back in force what decided before; again, and it goes one promotion further back, to the shipped table."""
    before, after = _change(None, actor, reason)
    return _tell({"before": before, "in_force": after, "changed": True}, f"{after} decides again", as_json=as_json)


def _change(version: str | None, actor: str, reason: str, *, unproven: bool = False) -> tuple[str, str]:
    referenced(actor, "--actor")
    referenced(reason, "--reason")
    before, after = asyncio.run(activate(attached(BOOKS), version, actor, reason, unproven=unproven))
    return before or SHIPPED, after or SHIPPED


async def activate(
    settings: Settings, version: str | None, actor: str, reason: str, *, unproven: bool = False
) -> tuple[str | None, str | None]:
    """Make ``version`` the champion, or go one promotion back; return (before, after).

    None is the shipped table; as what to make champion it asks to go back. One transaction: no batch sees two
    champions, or none between two. A model has to pass its checks first, unless a person takes it on themselves:
    ``unproven`` is kept.
    """
    async with connected(settings, writing=True) as connection, connection.transaction():
        await connection.execute(ALONE)
        before = await connection.fetchval(IN_FORCE)
        former = await connection.fetchval(BEFORE, before)
        if version is None and before is None and former is None:
            raise Problem("there is nothing to go back to: the shipped table decides", FOUND)
        if version is not None and not unproven:
            allowed(await checked(connection, settings, version, "champion"))
        after = former if version is None else version
        await _crown(connection, after, actor)
        if version is None:
            await connection.execute(WENT_BACK, after, actor, reason)
        else:
            await connection.execute(NOTE, after, "champion", actor, reason, unproven)
        return before, after


async def _crown(connection: Connection, version: str | None, actor: str) -> None:
    await connection.execute(RETIRE)
    if version is not None and await connection.fetchval(CROWN, version, actor) is None:
        raise absent(version)


Rows = list[dict[str, object]]


async def _known(settings: Settings) -> tuple[Rows, Rows, Rows, Tried | None]:
    async with connected(settings) as connection:
        models, changes = await connection.fetch(MODELS), await connection.fetch(CHANGES, SHOWN)
        stopped, trial = await connection.fetch(STOPPED, SHOWN), await tried(connection)
        return [dict(row) for row in models], [dict(row) for row in changes], [dict(row) for row in stopped], trial


async def _checks(settings: Settings, version: str, aim: Aim) -> tuple[Check, ...]:
    async with connected(settings) as connection:
        return await checked(connection, settings, version, aim)


async def _add(settings: Settings, version: str, text: str) -> bool:
    async with connected(settings, writing=True) as connection:
        digest = sha256(text.encode()).hexdigest()
        return await connection.fetchval(ADD, version, digest, text, SCHEMA_VERSION) is not None


def _tell(found: dict[str, object], words: str, *, as_json: bool) -> int:
    if as_json:
        print_json(found)
    else:
        stdout().print(words, markup=False)
    return OK if found["changed"] else FOUND
