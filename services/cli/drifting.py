"""Drift: has what is seen of repayments moved, and does more of them come back than expected?"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from deploy.embedded import Part
from services.cli.hindsight import CHAMPION, NOW, known, under
from services.cli.lag_report import seconds_of
from services.cli.servers import attached, connected
from services.cli.terminal import EPILOG, FOUND, OK, Json, print_json, stdout, table
from services.prior import Prior
from services.profiles import load_profiles
from services.risk_training.drifting import Drift, drifted
from services.runtime.settings import Settings

BOOKS: Final[tuple[Part, ...]] = ("postgres",)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("drift", epilog=EPILOG)(drift)


def drift(
    since: Annotated[str, typer.Option(help="How far back, for example 90d.")] = "90d",
    recent: Annotated[str, typer.Option(help="How much of it is compared with what was before.")] = "14d",
    until: Annotated[
        datetime | None, typer.Option(help="UTC; what is known by then counts. Now, if not given.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Compare what was seen lately with before, and sum what came back too often; 1 when something asks for action."""
    found = asyncio.run(_read(attached(BOOKS), seconds_of(since), seconds_of(recent), until))
    acts = bool(found.alarms) or any(one.shift == "act" for one in found.moved)
    if as_json:
        print_json(
            {
                "before": found.before,
                "after": found.after,
                "indexes": [one._asdict() for one in found.moved],
                "alarms": {name: on.isoformat() for name, on in found.alarms.items()},
            }
        )
        return FOUND if acts else OK
    shown = table("distribution", "index", "asks for", right=("index",))
    for one in found.moved:
        shown.add_row(one.name, f"{one.moved:.3f}", one.shift)
    stdout().print(f"{found.after:,} repayments compared with {found.before:,} before")
    stdout().print(shown)
    for name, on in found.alarms.items():
        stdout().print(f"{name}: more came back than expected since {on}", markup=False)
    return FOUND if acts else OK


async def _read(settings: Settings, seconds: float, recent: float, until: datetime | None) -> Drift:
    """Read at one instant, in a transaction that may not write."""
    async with connected(settings) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        end = await connection.fetchval(NOW) if until is None else until.replace(tzinfo=UTC)
        text = await connection.fetchval(CHAMPION)
        policy = under(load_profiles(settings), None if text is None else Prior.model_validate_json(text), None)
        cases = [case async for case in known(connection, end - timedelta(seconds=seconds), end)]
    return drifted(cases, policy, end - timedelta(seconds=recent))
