"""The credit score's challenger in shadow: a process of its own scores what changed, and no customer ever sees it."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from deploy.embedded import Part
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import EPILOG, OK, Json, Problem, print_json, stdout
from services.policy import Profiles
from services.profiles import credit_score, load_profiles
from services.runtime.settings import Settings
from services.statements import KEPT_MONTHS, Month

BOOKS: Final[tuple[Part, ...]] = ("postgres",)
PAGE: Final = 5_000
# Accounts with a whole history whose score is newer than what the challenger said of them.
CHANGED = """
SELECT a.account_id, a.version, a.product, a.months, a.score
FROM risk_scoring.account a LEFT JOIN risk_scoring.credit_shadow s USING (account_id)
WHERE a.score IS NOT NULL AND cardinality(a.months) = $1 AND (s.of_version IS NULL OR s.of_version < a.version)
ORDER BY a.account_id LIMIT $2
"""
KEEP = """
INSERT INTO risk_scoring.credit_shadow (account_id, of_version, champion, challenger, model)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::integer[], $4::integer[], $5::text[])
ON CONFLICT (account_id) DO UPDATE SET of_version = excluded.of_version, champion = excluded.champion,
  challenger = excluded.challenger, model = excluded.model, scored_at = clock_timestamp()
"""
# How both compare, and on how many accounts they disagree about an increase.
COMPARED = """
SELECT count(*) AS accounts, coalesce(avg(challenger - champion), 0)::float / 100 AS higher_points,
  count(*) FILTER (WHERE (champion >= $1) <> (challenger >= $1)) AS disagree, coalesce(corr(champion, challenger), 0)
    AS correlation
FROM risk_scoring.credit_shadow
"""


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("challenge", epilog=EPILOG)(challenge)


def challenge(
    every: Annotated[float, typer.Option(min=0, help="Seconds between looks; 0 is one look.")] = 0.0,
    as_json: Json = False,
) -> int:
    """Score accounts by the credit score's challenger, beside the score in force and without effect."""
    try:
        from services.risk_training import challenger
    except ImportError as error:
        raise Problem(f"{error.name} is not installed: `make training` installs what the challenger needs") from error
    settings, model = attached(BOOKS), challenger.booster()
    while True:
        found = asyncio.run(_look(settings, challenger, model))
        if as_json:
            print_json(found)
        else:
            stdout().print(
                f"{found['scored']:,} scored; {found['accounts']:,} in all: {found['higher_points']:+.1f} points on "
                f"average, correlation {found['correlation']:.3f}; {found['disagree']:,} fall on the other side",
                markup=False,
                soft_wrap=True,
            )
        if not every:
            return OK
        asyncio.run(asyncio.sleep(every))


async def _look(settings: Settings, challenger: Any, model: Any) -> dict[str, Any]:
    """Score everything that changed, and return how both compare."""
    profiles, scored = load_profiles(settings), 0
    async with connected(settings, writing=True) as connection:
        size = KEPT_MONTHS * len(Month._fields)
        while rows := await connection.fetch(CHANGED, size, PAGE):
            await _keep(connection, profiles, challenger, model, rows)
            scored += len(rows)
        compared = await connection.fetchrow(COMPARED, 100 * credit_score().threshold)
        return {"model": challenger.NAME, "scored": scored, **(dict(compared) if compared else {})}


async def _keep(connection: Connection, profiles: Profiles, challenger: Any, model: Any, rows: Sequence[Any]) -> None:
    asked = [(_months(row["months"]), profiles.of(row["product"]).limit_review.unit_minor) for row in rows]
    found = challenger.scores(model, asked)
    columns = ([row[name] for row in rows] for name in ("account_id", "version", "score"))
    await connection.execute(KEEP, *columns, found, [challenger.NAME] * len(rows))


def _months(figures: Sequence[int]) -> list[Month]:
    size = len(Month._fields)
    return [Month(*figures[n : n + size]) for n in range(0, len(figures), size)]
