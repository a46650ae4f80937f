"""Hold yield: what the holds of each rule caught, and what they were charged to customers who repaid (L6)."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import typer

from deploy.embedded import Part
from services.cli.servers import attached, connected
from services.cli.terminal import EPILOG, FOUND, OK, Json, print_json, stdout, table
from services.risk_training.replaying import REMOVAL_DAYS

BOOKS: Final[tuple[Part, ...]] = ("postgres",)
Found = Mapping[str, Any]
# What the holds of each rule came to, the newest month first; verdicts whose fast label is known.
YIELD = """
SELECT month, product, currency, rule, holds, caught, good, good_minor_days, kept_minor, first_at, last_caught_at
FROM risk_scoring.hold_yield ORDER BY month DESC, product, currency, rule
"""
NOW = "SELECT statement_timestamp()"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("yield", epilog=EPILOG)(hold_yield)


def hold_yield(as_json: Json = False) -> int:
    """Show what the holds of each rule caught and what they cost; 1 when a rule is proposed for removal."""
    rows, now = asyncio.run(_read())
    idle = removable(rows, now)
    if as_json:
        print_json({"months": [{**row, "yield": row["caught"] / row["holds"]} for row in rows], "removable": idle})
        return FOUND if idle else OK
    figures = ("holds", "caught", "yield", "good held", "unit-days from good", "kept back")
    shown = table("month", "product", "currency", "rule", *figures, right=figures)
    for row in rows:
        counts = (row["holds"], row["caught"], f"{row['caught'] / row['holds']:.1%}", row["good"])
        names = (row["month"], row["product"], row["currency"], row["rule"])
        shown.add_row(*names, *map(str, counts), f"{row['good_minor_days']:,}", f"{row['kept_minor']:,}")
    stdout().print(shown)
    for rule in idle:
        stdout().print(f"{rule} caught nothing in {REMOVAL_DAYS} days: proposed for removal", markup=False)
    return FOUND if idle else OK


def removable(rows: Sequence[Found], now: datetime) -> list[str]:
    """Return the rules that held and caught nothing for REMOVAL_DAYS; none that is not known for so long (risk 6)."""
    since = now - timedelta(days=REMOVAL_DAYS)
    known = {row["rule"] for row in rows if row["first_at"] <= since}
    caught = {row["rule"] for row in rows if row["last_caught_at"] is not None and row["last_caught_at"] > since}
    return sorted(known - caught)


async def _read() -> tuple[list[dict[str, Any]], datetime]:
    async with connected(attached(BOOKS)) as connection:
        now: datetime = await connection.fetchval(NOW)
        return [dict(row) for row in await connection.fetch(YIELD)], now
