"""A search for a cheaper hold policy, on the repayments of the ledger or in the planted market; changes nothing."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from services.cli.hindsight import BOOKS, CHAMPION, NOW, known, table_of, under
from services.cli.lag_report import seconds_of
from services.cli.servers import attached, connected
from services.cli.terminal import EPILOG, NOT_FOUND, OK, USAGE, Json, Problem, print_json, stderr, stdout, working
from services.policy import Profile
from services.profiles import load_profiles
from services.risk_training.search_report import SearchReport, html, name
from services.risk_training.searching import (
    SETTINGS,
    Repayment,
    decisions,
    drawn,
    parted,
    planted,
    recorded,
    search,
)
from services.risk_training.simulator import formula_profile

LEAST: Final = 30
"""Of fewer repayments nothing is said."""
JUDGED: Final = 1_000_000
"""So far apart are the seeds of the market a setting is tuned in and of the one it is judged in."""


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("search", epilog=EPILOG)(find)


def find(
    product: Annotated[str, typer.Option(help="The product whose hold policy is searched for.")] = "default",
    settings: Annotated[int, typer.Option(min=2, max=6_000, help="How many settings are tried.")] = SETTINGS,
    since: Annotated[str, typer.Option(help="How far back repayments are taken, for example 120d.")] = "120d",
    market: Annotated[
        int,
        typer.Option("--planted", min=0, help="Use so many repayments of the planted market instead of the ledger."),
    ] = 0,
    seed: Annotated[
        int, typer.Option(help="What is drawn: settings, the repayments of a round, the planted market.")
    ] = 1,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("search.html"),
    as_json: Json = False,
) -> int:
    """Try settings of the hold policy on repayments whose outcome is known, and propose one that is worth a change."""
    profile, tuned_on, judged_on, run = _planted(seed, market, product) if market else _ledger(since, product)
    if min(len(tuned_on), len(judged_on)) < LEAST:
        raise Problem(
            f"too few repayments of {product} have a known outcome: {len(tuned_on) + len(judged_on)}", NOT_FOUND
        )
    tried = drawn(seed, settings)
    with _progress(decisions(len(tried), len(tuned_on), len(judged_on))) as step:
        found = search(tuned_on, judged_on, profile, tried, seed=seed, step=step)
    run |= {"settings": f"{len(tried):,}", "seed": str(seed), "opentobuy": version("opentobuy")}
    counts = {"tuned on": f"{len(tuned_on):,} repayments", "judged on": f"{len(judged_on):,} others"}
    report = SearchReport(found, profile, {"policy": profile.policy_version, **run, **counts})
    if as_json:
        print_json(report.described)
        return OK
    out.write_text(html(report))
    best = "nothing is worth a change" if found.proposed is None else f"proposed: {name(found.proposed)}"
    change = found.best.per_thousand / found.in_force.per_thousand - 1 if found.in_force.cost else 0.0
    told = f"{best}; the best of {len(tried):,} costs {change:+.1%} on repayments that chose nothing"
    stdout().print(told, markup=False, soft_wrap=True)
    stdout().print(f"wrote {out}", markup=False, soft_wrap=True)
    return OK


Run = tuple[Profile, list[Repayment], list[Repayment], dict[str, str]]


def _planted(seed: int, count: int, product: str) -> Run:
    profile = formula_profile()
    if product != profile.product:
        raise Problem(f"the planted market is of {profile.product}", USAGE)
    judged = planted(seed + JUDGED, count // 2, profile)
    return profile, planted(seed, count, profile), judged, {"repayments": f"{count:,}, planted: made up"}


def _ledger(since: str, product: str) -> Run:
    """Read at one instant, in a transaction that may not write."""
    seconds, settings = seconds_of(since), attached(BOOKS)

    async def read() -> Run:
        async with (
            connected(settings) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            end = await connection.fetchval(NOW)
            begin = end - timedelta(seconds=seconds)
            in_force = under(load_profiles(settings), await table_of(connection, CHAMPION), None)
            profile = in_force.by_product.get(product)
            if profile is None or profile.returns is None:
                raise Problem(f"no profile of {product} with a table of returns", NOT_FOUND)
            tuned, judged = parted(recorded([case async for case in known(connection, begin, end)], profile))
        span = f"assessed from {begin:%Y-%m-%d %H:%M:%S}Z, known by {end:%Y-%m-%d %H:%M:%S}Z"
        return profile, list(tuned), list(judged), {"repayments": span}

    with working("reading what repayments came to"):
        return asyncio.run(read())


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many of all decisions were made."""
    console = stderr()
    columns = (TextColumn("deciding"), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("", total=total)
        yield lambda count: shown.advance(task, count)
