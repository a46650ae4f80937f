"""Lag as it is now: per stage where time goes, what waits and since when; read from the tail of the outboxes."""

import asyncio
import json
import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeVar

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table

from schemas.event import lag_by_cause, milliseconds_between
from schemas.ids import PROBE_ACCOUNT
from schemas.reasons import STAGES, Stage
from services.cli import lag_report
from services.cli.journey import name_of
from services.cli.ledger import Figures, cause_table, figures
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import EPILOG, Json, print_json, stdout, table
from services.runtime.postgres import Row

T = TypeVar("T")
Phase = Literal["queue", "processing", "hold", "other"]
WAITS_IN: Final[dict[str, Stage | None]] = {
    "RepaymentReceived": "settlement",
    "RepaymentSettled": "risk",
    "RiskAssessed": "release",
    "RepaymentRejected": None,
    "HoldPlaced": None,
    "RestorationParked": None,
    "CreditRestored": None,
    "NothingToRestore": None,
    "RestorationReversed": None,
}
"""Where a repayment waits once this was told of it; None when it is decided."""
WAITED: Final = frozenset(WAITS_IN.values())
PHASES: Final[tuple[Phase, ...]] = ("queue", "processing", "hold", "other")
TAIL_MAX: Final = 20_000
WATCH_SECONDS: Final = 1.0
ABOUT: Final = "Where time went and what waits since when: by stage and, where lag-monitor runs, by cause."
OVERLAP: Final = 20
"""Publications read again: two processes of a service may commit out of the order of their numbers."""

NOW = "SELECT clock_timestamp() AS now"
# The newest publication of each service that is older than the window: the tail begins after it.
BEGINNINGS = """
SELECT 'repayment_ingest' AS package, (SELECT publication_id FROM repayment_ingest.publication
  WHERE created_at < clock_timestamp() - make_interval(secs => $1) ORDER BY publication_id DESC LIMIT 1) AS at
UNION ALL SELECT 'settlement', (SELECT publication_id FROM settlement.publication
  WHERE created_at < clock_timestamp() - make_interval(secs => $1) ORDER BY publication_id DESC LIMIT 1)
UNION ALL SELECT 'risk_scoring', (SELECT publication_id FROM risk_scoring.publication
  WHERE created_at < clock_timestamp() - make_interval(secs => $1) ORDER BY publication_id DESC LIMIT 1)
UNION ALL SELECT 'limit_release', (SELECT publication_id FROM limit_release.publication
  WHERE created_at < clock_timestamp() - make_interval(secs => $1) ORDER BY publication_id DESC LIMIT 1)
"""
# The tail of a service's outbox, by primary key.
TAILS: Final = {
    "repayment_ingest": """
SELECT publication_id, event_id, event_type, payload FROM repayment_ingest.outbox
WHERE publication_id > $1 ORDER BY publication_id, n LIMIT $2
""",
    "settlement": """
SELECT publication_id, event_id, event_type, payload FROM settlement.outbox
WHERE publication_id > $1 ORDER BY publication_id, n LIMIT $2
""",
    "risk_scoring": """
SELECT publication_id, event_id, event_type, payload FROM risk_scoring.outbox
WHERE publication_id > $1 ORDER BY publication_id, n LIMIT $2
""",
    "limit_release": """
SELECT publication_id, event_id, event_type, payload FROM limit_release.outbox
WHERE publication_id > $1 ORDER BY publication_id, n LIMIT $2
""",
}
# Held and parked parts, through the partial index on what waits.
WAITING_PARTS = """
SELECT t.state, count(*) AS n, min(r.repaid_at) AS oldest FROM limit_release.tranche t
JOIN limit_release.repayment r USING (repayment_id) WHERE t.state IN ('held', 'parked') GROUP BY t.state
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One restored part: when, and its milliseconds by stage and phase."""

    restored_at: datetime
    split: dict[tuple[Stage, Phase], int]
    total_ms: int

    @property
    def held(self) -> bool:
        """Tell whether a hold was part of it."""
        return any(phase == "hold" for _, phase in self.split)


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a repayment came: the stage it waits in since some instant, None when it is decided."""

    repayment_id: str
    waits_in: Stage | None
    since: datetime
    repaid_at: datetime

    @property
    def rank(self) -> int:
        """Return a number that only grows on the way."""
        return len(STAGES) if self.waits_in is None else STAGES.index(self.waits_in)


@dataclass(slots=True)
class Flow:
    """What was told of repayments from ``begun`` on, by the services' own clock, fed from their outboxes."""

    cursors: dict[str, int]
    begun: datetime
    now: datetime
    reached: dict[str, Reached] = field(default_factory=dict)
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=TAIL_MAX))
    held: dict[str, tuple[int, datetime | None]] = field(default_factory=dict)
    received_count: int = 0
    seen: dict[str, None] = field(default_factory=dict)

    async def read(self, connection: Connection) -> None:
        """Read what every service told since the last time."""
        for package, query in TAILS.items():
            rows = await connection.fetch(query, max(0, self.cursors[package] - OVERLAP), TAIL_MAX)
            for row in rows:
                self._take(row)
            self.cursors[package] = max([self.cursors[package], *(row["publication_id"] for row in rows)])
        self.held = {row["state"]: (row["n"], row["oldest"]) for row in await connection.fetch(WAITING_PARTS)}
        self.now = await connection.fetchval(NOW)

    def waiting(self) -> dict[Stage, list[Reached]]:
        """Return the repayments that have not left each stage, of those reported within the window."""
        found: dict[Stage, list[Reached]] = {stage: [] for stage in STAGES}
        for reached in self.reached.values():
            if reached.waits_in is not None:
                found[reached.waits_in].append(reached)
        return found

    def recent(self, seconds: float) -> list[Sample]:
        """Return the parts restored within the last ``seconds``."""
        since = self.now - timedelta(seconds=seconds)
        return [sample for sample in self.samples if sample.restored_at >= since]

    def _take(self, row: Row) -> None:
        event = str(row["event_id"])
        if event in self.seen:
            return
        _remember(self.seen, event, None)
        name = name_of(row["event_type"])
        if name not in WAITS_IN:
            return
        body = json.loads(row["payload"])
        if body["account_id"] == PROBE_ACCOUNT or _instant(body["occurred_at"]) < self.begun:
            return  # read again for the order's sake; how it went on may be further back than that
        at, known = body["repayment_id"], self.reached.get(body["repayment_id"])
        self.received_count += name == "RepaymentReceived"
        reached = Reached(at, WAITS_IN[name], _since(body), _instant(body.get("repaid_at") or body["occurred_at"]))
        if known is None or reached.rank > known.rank:
            _remember(self.reached, at, reached)
        if name == "CreditRestored":
            self.samples.append(sample_of(body))


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(invoke_without_command=True, epilog=EPILOG, help=ABOUT)
    group.callback()(lag)
    lag_report.register(group)
    app.add_typer(group, name="lag")


def lag(
    context: typer.Context,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="The window.")] = 300,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh in place until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Show where time went and what waits since when, by stage and, where lag-monitor runs, by cause."""
    if context.invoked_subcommand is not None:
        return
    flow, found = asyncio.run(_read(seconds))
    if as_json:
        print_json({**described(flow, seconds), "ledger": found and found.described()})
    elif watch:
        with Live(_shown(flow, found, seconds), console=stdout(), auto_refresh=False) as live:
            while True:
                time.sleep(WATCH_SECONDS)
                live.update(_shown(*asyncio.run(_read(seconds)), seconds), refresh=True)
    else:
        stdout().print(_shown(flow, found, seconds))


def _shown(flow: Flow, found: Figures | None, seconds: float) -> Group:
    parts = [stage_table(flow, seconds)]
    return Group(*parts) if found is None else Group(*parts, "", cause_table(found))


async def _read(seconds: float) -> tuple[Flow, Figures | None]:
    async with connected(attached()) as connection:
        flow = await begin(connection, seconds)
        await flow.read(connection)
        return flow, await figures(connection, seconds)


async def begin(connection: Connection, seconds: float) -> Flow:
    """Return an empty flow that will read the last ``seconds`` and what follows."""
    rows = await connection.fetch(BEGINNINGS, float(seconds))
    now = await connection.fetchval(NOW)
    return Flow({row["package"]: row["at"] or 0 for row in rows}, now - timedelta(seconds=seconds), now)


def sample_of(body: dict[str, Any]) -> Sample:
    """Return where the time of one restored part went."""
    repaid_at, restored_at = _instant(body["repaid_at"]), _instant(body["restored_at"])
    trail = [(stage, cause, _instant(until)) for stage, cause, until in body["trail"]]
    split: dict[tuple[Stage, Phase], int] = {}
    for (stage, cause), spent in lag_by_cause(repaid_at, trail).items():
        at = (stage, phase_of(cause))
        split[at] = split.get(at, 0) + spent
    return Sample(restored_at, split, milliseconds_between(repaid_at, restored_at))


def phase_of(cause: str) -> Phase:
    """Return what a cause counts as: a queue, work, a hold, or something else."""
    kind, _, name = cause.partition(".")
    if kind in ("risk_observation", "account_standing"):
        return "hold"
    return {"kafka_queue": "queue", "processing": "processing"}.get(name, "other")  # type: ignore[return-value]


def percentile(values: Iterable[int], share: float) -> int | None:
    """Return the value at or below which ``share`` of the values are (nearest rank); None of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def stage_table(flow: Flow, seconds: float) -> Table:
    """Return the stages with what waits, and where time went, as p50 / p99."""
    samples = flow.recent(seconds)
    right = ("waiting", "oldest", "queue", "processing", "hold")
    shown = table("stage", "waiting", "oldest", "queue", "processing", "hold", "other", right=(*right, "other"))
    for stage, waits in flow.waiting().items():
        spent = (_pair(sample.split.get((stage, phase)) for sample in samples) for phase in PHASES)
        oldest = min((reached.repaid_at for reached in waits), default=None)
        shown.add_row(stage, str(len(waits)) if stage in WAITED else "", _age(flow.now, oldest), *spent)
    for state, (count, oldest) in flow.held.items():
        shown.add_row(f"  {state} parts", str(count), _age(flow.now, oldest))
    shown.add_row()
    for words, chosen in _groups(samples):
        totals = [sample.total_ms for sample in chosen]
        shown.add_row(words, str(len(chosen)), "", "p50 / p99", _pair(totals))
    return shown


def described(flow: Flow, seconds: float) -> dict[str, Any]:
    """Return the same for programs; milliseconds."""
    samples = flow.recent(seconds)
    stages = {
        stage: {
            "waiting": len(waits),
            "oldest_repaid_at": min((reached.repaid_at for reached in waits), default=None),
            **{phase: _both(sample.split.get((stage, phase)) for sample in samples) for phase in PHASES},
        }
        for stage, waits in flow.waiting().items()
    }
    totals = {words: {"parts": len(c), **_both(s.total_ms for s in c)} for words, c in _groups(samples)}
    held = {state: {"parts": n, "oldest_repaid_at": oldest} for state, (n, oldest) in flow.held.items()}
    return {"seconds": seconds, "at": flow.now, "stages": stages, "waiting_parts": held, "repaid_to_restored": totals}


def _groups(samples: Sequence[Sample]) -> list[tuple[str, list[Sample]]]:
    return [
        ("restored at once", [sample for sample in samples if not sample.held]),
        ("restored after a hold", [sample for sample in samples if sample.held]),
    ]


def _both(values: Iterable[int | None]) -> dict[str, int | None]:
    known = [value for value in values if value is not None]
    return {"p50_ms": percentile(known, 0.5), "p99_ms": percentile(known, 0.99)}


def _pair(values: Iterable[int | None]) -> str:
    both = _both(values)
    return "" if both["p50_ms"] is None else f"{seconds_text(both['p50_ms'])} / {seconds_text(both['p99_ms'] or 0)}"


def seconds_text(milliseconds: int) -> str:
    """Return milliseconds as people read them in a table."""
    return f"{milliseconds} ms" if milliseconds < 1_000 else f"{milliseconds / 1000:.1f} s"


def _age(now: datetime, since: datetime | None) -> str:
    return "" if since is None else f"{max(0.0, (now - since).total_seconds()):.1f} s"


def _since(body: dict[str, Any]) -> datetime:
    return _instant(body["trail"][-1][2]) if body.get("trail") else _instant(body["occurred_at"])


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _remember(known: dict[str, T], at: str, value: T) -> None:
    """Keep a value, and no more than so many; the first to come is the first to go."""
    known.pop(at, None)
    known[at] = value
    while len(known) > TAIL_MAX:
        del known[next(iter(known))]
