"""A model tried beside the one in force: begun and ended by people, and what it came to so far."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from services.cli.evidence import absent, checked
from services.cli.servers import Connection, connected
from services.cli.terminal import FOUND, Problem, local, stdout, table
from services.risk_training.promotion import Check
from services.runtime.settings import Settings

Tried = dict[str, Any]
"""A trial: the version, what it is, since when, what was counted by who decided, and the last differences."""
# One change after the other: whoever comes second waits, and then sees the first.
ALONE: Final = "LOCK TABLE risk_scoring.risk_activation IN SHARE ROW EXCLUSIVE MODE"
END: Final = """
UPDATE risk_scoring.risk_models SET status = 'challenger' WHERE kind = 'return' AND status IN ('shadow', 'canary')
RETURNING version
"""
BEGIN: Final = """
UPDATE risk_scoring.risk_models SET status = $2, activated_at = clock_timestamp(), approved_by = $3
WHERE kind = 'return' AND version = $1 RETURNING version
"""
IN_FORCE: Final = "SELECT version FROM risk_scoring.risk_models WHERE kind = 'return' AND status = 'champion'"
NOTE: Final = """
INSERT INTO risk_scoring.risk_activation (kind, version, became, actor, reason, unproven)
VALUES ('return', $1, $2, $3, $4, $5)
"""
# Counts of hours nobody asks for any more: longer ago than comparisons are kept.
FORGET: Final = "DELETE FROM risk_scoring.risk_trial_count WHERE hour < clock_timestamp() - interval '128 days'"
TRIAL: Final = """
SELECT m.version, m.status, m.activated_at AS since, s.stopped_at, s.rule, s.figures
FROM risk_scoring.risk_models m
LEFT JOIN risk_scoring.risk_trial_stop s ON (s.version, s.began_at) = (m.version, m.activated_at)
WHERE m.kind = 'return' AND m.status IN ('shadow', 'canary')
"""
COUNTED: Final = """
SELECT by_candidate, sum(judged)::bigint AS judged, sum(differing)::bigint AS differing,
  sum(champion_held)::bigint AS champion_held, sum(candidate_held)::bigint AS candidate_held,
  sum(released)::bigint AS released, sum(expected) AS expected, sum(returned)::bigint AS returned
FROM risk_scoring.risk_trial_count WHERE version = $1 AND began_at = $2 GROUP BY 1 ORDER BY 1
"""
# The last repayments of the sample of which a customer would see that another model decided.
DIFFERENCES: Final = """
SELECT repayment_id, assessed_at, by_candidate, restorable_minor, champion_verdict, champion_at_once_minor,
  champion_until, candidate_verdict, candidate_at_once_minor, candidate_until
FROM risk_scoring.risk_comparison
WHERE version = $1 AND began_at = $2 AND (champion_verdict, champion_at_once_minor, champion_until)
  IS DISTINCT FROM (candidate_verdict, candidate_at_once_minor, candidate_until)
ORDER BY assessed_at DESC, repayment_id LIMIT 5
"""


async def begun(
    settings: Settings, version: str, became: Literal["shadow", "canary"], actor: str, reason: str, *, unproven: bool
) -> None:
    """Begin a trial of a version of the registry, in place of any other; raise Problem when it is not there.

    A canary has to pass its checks first, unless a person takes it on themselves: ``unproven`` is kept.
    """
    async with connected(settings, writing=True) as connection, connection.transaction():
        await connection.execute(ALONE)
        if await connection.fetchval(IN_FORCE) == version:
            raise Problem(f"{version} is in force", FOUND)
        if became == "canary" and not unproven:
            allowed(await checked(connection, settings, version, "canary"))
        await connection.execute(END)
        await connection.execute(FORGET)
        if await connection.fetchval(BEGIN, version, became, actor) is None:
            raise absent(version)
        await connection.execute(NOTE, version, became, actor, reason, unproven)


async def ended(settings: Settings, actor: str, reason: str) -> str | None:
    """End the trial; return its version, None when there is none."""
    async with connected(settings, writing=True) as connection, connection.transaction():
        await connection.execute(ALONE)
        version: str | None = await connection.fetchval(END)
        if version is not None:
            await connection.execute(NOTE, version, "challenger", actor, reason, False)
        return version


async def tried(connection: Connection) -> Tried | None:
    """Return what is tried and what it came to, None when nothing is."""
    trial = await connection.fetchrow(TRIAL)
    if trial is None:
        return None
    named = (trial["version"], trial["since"])
    counted, differences = await connection.fetch(COUNTED, *named), await connection.fetch(DIFFERENCES, *named)
    return {
        **dict(trial),
        "counted": [dict(row) for row in counted],
        "differences": [dict(row) for row in differences],
    }


def allowed(checks: Sequence[Check]) -> None:
    """Raise Problem with what does not pass, if anything does not."""
    failed = [f"{check.name}: {check.seen}, wanted {check.wanted}" for check in checks if not check.passed]
    if failed:
        raise Problem(f"the checks do not allow it (--unproven does, and is kept): {'; '.join(failed)}", FOUND)


def show_checks(checks: Sequence[Check]) -> None:
    """Print checks."""
    made = table("check", "passed", "seen", "wanted")
    for check in checks:
        made.add_row(check.name, "yes" if check.passed else "NO", check.seen, check.wanted)
    stdout().print(made)


def show(trial: Tried | None) -> None:
    """Print a trial."""
    if trial is None:
        return
    ended = "" if trial["stopped_at"] is None else f", ended by itself {local(trial['stopped_at'])}: {trial['rule']}"
    words = f"tried: {trial['version']} as {trial['status']} since {local(trial['since'])}{ended}"
    stdout().print(words if trial["counted"] else f"{words}; nothing was compared yet", markup=False)
    show_rows("counted", trial["counted"])
    show_rows("last differences of the sample", trial["differences"])


def show_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a table with their names above; nothing without rows."""
    if not rows:
        return
    made = table(*rows[0], title=title)
    for row in rows:
        made.add_row(*[_shown(value) for value in row.values()])
    stdout().print(made)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if hasattr(value, "isoformat"):
        return local(value)
    return "-" if value is None else str(value)
