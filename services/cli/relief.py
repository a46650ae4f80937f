"""Relief (L17): while our delay burns an objective, the instant cap of tiers A and B is wider, within a loss budget."""

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from deploy.embedded import Part
from services.cli.actor import Actor, Why, referenced
from services.cli.lag_report import seconds_of
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import EPILOG, FOUND, OK, Json, Problem, print_json, stdout
from services.cli.trials import show_rows
from services.policy import Profile, Profiles
from services.profiles import load_profiles
from services.risk_scoring.store import outcome
from services.risk_training.relief import Kept, Rule, Turn, expected_loss, turn
from services.runtime.settings import Settings
from services.watching.objectives import load_objectives

app = typer.Typer(
    help="Relief: hold low-risk credit less while we are late ourselves.", no_args_is_help=True, epilog=EPILOG
)
BOOKS: Final[tuple[Part, ...]] = ("postgres",)
SLO: Final = "low_risk_60s"
"""The promise to whom nothing is held and nothing is parked: only we ourselves can break it."""
CONTROL: Final = "relief-control"
ALIVE: Final = Path(tempfile.gettempdir()) / "opentobuy-relief-control.alive"
"""Touched after each turn of a control that goes on: what a container's health is asked of."""
HOLDS_SECONDS: Final = 300
"""A relief that nobody renews is over after so long."""
SHOWN: Final = 20
# One turn at a time: whoever comes second sees what the first one did.
ALONE: Final = "LOCK TABLE risk_scoring.cap_relief IN SHARE ROW EXCLUSIVE MODE"
# Promises whose date was in the last so many seconds, and those broken.
KEPT: Final = """
SELECT count(*) FILTER (WHERE outcome IN ('met', 'breached')) AS due,
  count(*) FILTER (WHERE outcome = 'breached') AS broken
FROM lag_monitor.sla_promise WHERE slo = $1 AND deadline_at > clock_timestamp() - $2 * interval '1 second'
  AND deadline_at <= clock_timestamp()
"""
# The relief of a product that was not ended, and whether it still counts.
RUNNING: Final = """
SELECT id, until > clock_timestamp() AS in_force FROM risk_scoring.cap_relief WHERE product = $1 AND ended_at IS NULL
"""
# Verdicts that a relief of the last day may have given back sooner.
WIDENED: Final = """
SELECT row_to_json(o)::text AS outcome FROM risk_scoring.risk_outcome o
WHERE o.product = $1 AND position('widened_minor' IN o.inputs) > 0
  AND o.assessed_at > clock_timestamp() - interval '1 day'
"""
BEGIN: Final = """
INSERT INTO risk_scoring.cap_relief (product, factor_bps, budget_minor, spent_minor, until)
VALUES ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 second') RETURNING id
"""
RENEW: Final = """
UPDATE risk_scoring.cap_relief SET until = clock_timestamp() + $3 * interval '1 second', spent_minor = $2 WHERE id = $1
"""
END: Final = "UPDATE risk_scoring.cap_relief SET ended_at = clock_timestamp(), spent_minor = $2 WHERE id = $1"
STEP: Final = """
INSERT INTO risk_scoring.cap_relief_step (relief_id, step, actor, reason, seen) VALUES ($1, $2, $3, $4, $5::jsonb)
"""
RELIEFS: Final = """
SELECT product, factor_bps, budget_minor, spent_minor, began_at, until, ended_at FROM risk_scoring.cap_relief
ORDER BY id DESC LIMIT $1
"""
STEPS: Final = """
SELECT at, r.product, step, actor, reason, seen::text AS seen
FROM risk_scoring.cap_relief_step s JOIN risk_scoring.cap_relief r ON r.id = s.relief_id ORDER BY s.id DESC LIMIT $1
"""
PAST: Final = {"begin": "began", "renew": "renewed", "end": "ended"}


@app.command(epilog=EPILOG)
def status(as_json: Json = False) -> int:
    """Show what relief is in force, and every step of the last ones with what was seen."""

    async def read() -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
        async with connected(attached(BOOKS)) as connection:
            return [dict(row) for row in await connection.fetch(RELIEFS, SHOWN)], [
                dict(row) for row in await connection.fetch(STEPS, SHOWN)
            ]

    reliefs, steps = asyncio.run(read())
    if as_json:
        print_json({"reliefs": reliefs, "steps": [{**row, "seen": json.loads(row["seen"])} for row in steps]})
        return OK
    if not reliefs:
        stdout().print("no relief was ever in force")
    show_rows("reliefs, newest first", reliefs)
    show_rows("steps, newest first", steps)
    return OK


@app.command(epilog=EPILOG)
def control(
    every: Annotated[float, typer.Option(min=0, help="Seconds between turns; 0 is one turn.")] = 0.0,
    as_json: Json = False,
) -> int:
    """Look at what burns and begin, renew or end relief; a relief ends by itself five minutes after the last turn."""
    settings = attached(BOOKS)
    while True:
        turns = asyncio.run(turns_of(settings))
        if as_json:
            print_json({product: one._asdict() for product, one in turns.items()})
        else:
            for product, one in turns.items():
                stdout().print(f"{product}: {one.step}, {one.why}", markup=False)
        if not every:
            return OK
        ALIVE.touch()
        asyncio.run(asyncio.sleep(every))


@app.command(epilog=EPILOG)
def end(
    product: Annotated[str, typer.Argument(help="The product.")], actor: Actor, reason: Why, as_json: Json = False
) -> int:
    """End the relief of a product now: from the next batch on its instant cap is as ever."""
    referenced(actor, "--actor")
    referenced(reason, "--reason")
    settings = attached(BOOKS)

    async def ended() -> bool:
        async with connected(settings, writing=True) as connection, connection.transaction():
            await connection.execute(ALONE)
            running = await connection.fetchrow(RUNNING, product)
            if running is None:
                return False
            spent = await _spent(connection, load_profiles(settings).of(product))
            await connection.execute(END, running["id"], spent)
            await connection.execute(STEP, running["id"], "ended", actor, reason, json.dumps({"spent_minor": spent}))
            return True

    if not asyncio.run(ended()):
        raise Problem(f"no relief of {product} is in force", FOUND)
    if as_json:
        print_json({"product": product, "changed": True})
    else:
        stdout().print(f"the relief of {product} is over", markup=False)
    return OK


async def turns_of(settings: Settings) -> dict[str, Turn]:
    """Do one turn of control for every product, and return what was done."""
    profiles = load_profiles(settings)
    async with connected(settings, writing=True) as connection:
        return {name: await _turned(connection, profiles, name) for name in sorted(profiles.by_product)}


async def _turned(connection: Connection, profiles: Profiles, product: str) -> Turn:
    """Decide and do one turn of a product in one transaction."""
    profile, rule, windows = profiles.of(product), *_rule()
    exposure = profile.hold["REVERSIBLE"].exposure
    async with connection.transaction():
        await connection.execute(ALONE)
        running = await connection.fetchrow(RUNNING, product)
        short, long = [await _kept(connection, seconds) for seconds in windows]
        spent = await _spent(connection, profile)
        lapsed = running is not None and not running["in_force"]
        if running is not None and lapsed:  # nobody renewed it: it was over by itself
            await _step(connection, running["id"], Turn("end", "nobody renewed it"), spent, (short, long))
        going = running is not None and not lapsed
        made = turn(rule, short, long, exposure, spent, running=going)
        if made.step == "begin":
            relief = (product, exposure.relief_bps, exposure.relief_loss_minor, spent, HOLDS_SECONDS)
            await _note(connection, await connection.fetchval(BEGIN, *relief), made, spent, (short, long))
        elif made.step != "none" and running is not None:
            await _step(connection, running["id"], made, spent, (short, long))
    return made


async def _step(connection: Connection, relief: int, made: Turn, spent: int, seen: tuple[Kept, Kept]) -> None:
    if made.step == "renew":
        await connection.execute(RENEW, relief, spent, HOLDS_SECONDS)
    else:
        await connection.execute(END, relief, spent)
    await _note(connection, relief, made, spent, seen)


async def _note(connection: Connection, relief: int, made: Turn, spent: int, seen: tuple[Kept, Kept]) -> None:
    short, long = (one._asdict() for one in seen)
    told = json.dumps({"slo": SLO, "short": short, "long": long, "spent_minor": spent})
    await connection.execute(STEP, relief, PAST[made.step], CONTROL, made.why, told)


async def _kept(connection: Connection, seconds: float) -> Kept:
    row = await connection.fetchrow(KEPT, SLO, seconds)
    return Kept(0, 0) if row is None else Kept(row["due"], row["broken"])


async def _spent(connection: Connection, profile: Profile) -> int:
    rows = await connection.fetch(WIDENED, profile.product)
    return expected_loss(profile, [outcome(json.loads(row["outcome"])) for row in rows])


def _rule() -> tuple[Rule, tuple[float, float]]:
    """Return when the objective burns as its page says (objectives.toml), and its two windows in seconds."""
    found = load_objectives()
    objective = next(one for one in found.objective if one.slo == SLO)
    burn = next(one for one in found.burn if one.severity == "page")
    return Rule(objective.budget, burn.factor, burn.breaches), (seconds_of(burn.short), seconds_of(burn.long))
