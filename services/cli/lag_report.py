"""The lag report: one HTML file that opens anywhere, drawn by us, readable without colour, script or network."""

import asyncio
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from schemas.reasons import CAUSES
from services.cli.journey import Timeline, timeline_of
from services.cli.ledger import EN, Figures, figures, words
from services.cli.picture import journey_svg
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import EPILOG, NOT_FOUND, USAGE, Json, Problem, local, print_json, stdout
from services.metrics.catalogue import SECONDS
from services.wording import duration_text, money_text

DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
UNIT: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
STEPS_MAX: Final = 120
WIDTH, LEFT, ROW, RIGHT = 860, 230, 24, 110
FACTS = """
SELECT repayment_id, tranche, lag_ms, cause, repaid_at FROM lag_monitor.restoration_fact
WHERE restored_at > $2::timestamptz - make_interval(secs => $1) AND account_id <> 'probe'
ORDER BY lag_ms, repayment_id, tranche
"""
SEGMENTS = """
SELECT stage, cause, to_at, ms FROM lag_monitor.lag_segment WHERE repayment_id = $1 AND tranche = $2 ORDER BY n
"""
# Repayments reported and parts restored in each of $3 equal steps of the window, and what waited at each step's end.
FLOW = """
WITH step AS (
  SELECT n, $2::timestamptz - make_interval(secs => $1 * (1 - (n - 1) / $3::double precision)) AS from_at,
    $2::timestamptz - make_interval(secs => $1 * (1 - n / $3::double precision)) AS to_at
  FROM generate_series(1, $3::integer) AS n)
SELECT from_at, to_at,
  (SELECT count(*) FROM lag_monitor.journey WHERE reported_at > from_at AND reported_at <= to_at
    AND account_id <> 'probe') AS reported,
  (SELECT count(*) FROM lag_monitor.restoration_fact WHERE restored_at > from_at AND restored_at <= to_at
    AND account_id <> 'probe') AS restored,
  (SELECT count(*) FROM lag_monitor.restoration_fact f JOIN lag_monitor.lag_segment s USING (repayment_id, tranche)
    WHERE f.restored_at > from_at AND f.restored_at <= to_at AND s.cause = 'system_delay.dependency_down') AS down
FROM step ORDER BY n
"""
STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
th,td{padding:.25rem .5rem;text-align:right;border-bottom:1px solid #8886}
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}
svg{width:100%;height:auto;margin:.5rem 0}svg text{font:12px system-ui,sans-serif;fill:currentColor}
.external{fill:#9a6700}.system_delay{fill:#0969da}.risk_observation{fill:#8250df}.account_standing{fill:#bc4c00}
.axis{stroke:#8888;stroke-width:1}.reported{stroke:#8250df;fill:none}.restored{stroke:#1a7f37;fill:none}
.mark{stroke:#cf222e;stroke-dasharray:4 3}
@media print{body{max-width:none;margin:0}h2,table,svg{break-inside:avoid}}
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, to be seen on the timeline: a worker killed, a service paused."""

    at: datetime
    words: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the report shows."""

    figures: Figures
    facts: Sequence[Mapping[str, Any]]
    examples: Sequence[tuple[str, Timeline]]
    flow: Sequence[Mapping[str, Any]]
    marks: Sequence[Mark]


def report(
    since: Annotated[str, typer.Option(help="How far back, for example 90s, 15m, 1h or 2d.")] = "1h",
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("lag.html"),
    as_json: Json = False,
) -> None:
    """Write where the time went since then as one HTML file with its figures; or print the figures as JSON."""
    found = asyncio.run(_read(seconds_of(since)))
    if as_json:
        print_json(found.figures.described())
        return
    out.write_text(html(found))
    stdout().print(f"wrote {out}: {len(found.facts)} parts restored", markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("report", epilog=EPILOG)(report)


def seconds_of(since: str) -> float:
    """Return a duration as people write it in seconds; raise Problem for any other text."""
    found = DURATION.fullmatch(since.strip())
    if found is None:
        raise Problem(f"{since} is no duration: write 90s, 15m, 1h or 2d", USAGE)
    return float(found[1]) * UNIT[found[2]]


async def _read(seconds: float) -> Report:
    async with connected(attached()) as connection:
        return await read(connection, seconds)


async def read(connection: Connection, seconds: float, marks: Sequence[Mark] = ()) -> Report:
    """Read what a report shows; raise Problem where no ledger is kept."""
    found = await figures(connection, seconds)
    if found is None:
        raise Problem("no lag ledger here: run lag-monitor", NOT_FOUND)
    facts = await connection.fetch(FACTS, float(seconds), found.at)
    steps = max(10, min(STEPS_MAX, int(seconds)))
    flow = await connection.fetch(FLOW, float(seconds), found.at, steps)
    examples = [(name, await _timeline(connection, fact)) for name, fact in _examples(facts)]
    return Report(found, facts, examples, flow, marks)


def _examples(facts: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Choose the median and the slowest."""
    return [("the median", facts[(len(facts) - 1) // 2]), ("the slowest", facts[-1])] if facts else []


async def _timeline(connection: Connection, fact: Mapping[str, Any]) -> Timeline:
    rows = await connection.fetch(SEGMENTS, fact["repayment_id"], fact["tranche"])
    return timeline_of(fact["repaid_at"], fact["tranche"], rows)


def html(found: Report) -> str:
    """Return the whole page."""
    title = f"Lag report, {local(found.figures.at)}"
    body = "".join(_sections(found))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def _sections(found: Report) -> Iterator[str]:
    window = duration_text(round(found.figures.seconds * 1000), EN)
    yield f"<p>Parts restored in the last {escape(window)}: {len(found.facts)}.</p>"
    yield _totals(found.figures)
    yield "<h2>How long, by what took most of the time</h2>"
    yield distribution(found.facts)
    yield _distribution_table(found.facts)
    yield "<h2>Where the time went</h2>"
    yield _causes(found.figures)
    for name, line in found.examples:
        yield f"<h2>A repayment: {escape(name)}</h2>{journey_svg(line, EN)}{_stretches(line)}"
    yield "<h2>What came, what went back, and what happened</h2>"
    yield timeline(found)
    yield _marks(found.marks)


def _totals(found: Figures) -> str:
    rows = [
        (t["currency"], str(t["parts"]), money_text(t["amount_minor"], t["currency"], EN), _time(t["mean_ms"]),
         _time(t["p50_ms"]), _time(t["p99_ms"]), _time(t["weighted_ms"]), f"{t['unattributed_ms']} ms")
        for t in found.totals
    ]  # fmt: skip
    return _table(("currency", "parts", "amount", "mean", "p50", "p99", "by amount", "unexplained"), rows)


def _causes(found: Figures) -> str:
    rows = []
    for line in found.lines:
        weighted = ", ".join(f"{name} {_time(ms)}" for name, ms in sorted((line.weighted_ms or {}).items()))
        times = (_time(line.total_ms), _time(line.p50_ms), _time(line.p99_ms), weighted)
        rows.append((*words(line.stage, line.cause), str(line.waiting), str(line.parts), *times))
    return _table(("stage", "because of", "waiting", "parts", "in all", "p50", "p99", "by amount"), rows)


def _stretches(line: Timeline) -> str:
    rows = [(*words(s.stage, s.cause), f"{s.milliseconds} ms") for s in line.stretches]
    return _table(("stage", "because of", "time"), [*rows, ("in all", "", f"{line.milliseconds} ms")])


def _marks(marks: Sequence[Mark]) -> str:
    return _table(("at", "what happened"), [(local(mark.at), mark.words) for mark in marks]) if marks else ""


def spread(facts: Sequence[Mapping[str, Any]]) -> dict[str, Counter[int]]:
    """Return by dominant cause how many parts fell under each edge of the exported histogram."""
    found: dict[str, Counter[int]] = {}
    for fact in facts:
        edge = sum(second * 1000 < fact["lag_ms"] for second in SECONDS)
        found.setdefault(fact["cause"], Counter())[edge] += 1
    return {cause: found[cause] for cause in CAUSES if cause in found}


def distribution(facts: Sequence[Mapping[str, Any]]) -> str:
    """Draw a row a cause: a bar for each edge, along a scale from a millisecond to thirty days."""
    found = spread(facts)
    most = max((n for counts in found.values() for n in counts.values()), default=1)
    height = ROW * 2 * len(found) + 30
    room = (WIDTH - LEFT - 20) / (len(SECONDS) + 1)
    parts = []
    for row, (cause, counts) in enumerate(found.items()):
        base = (row + 1) * ROW * 2 - 8
        parts.append(f'<text x="4" y="{base}">{escape(words("release", cause)[1])}</text>')
        for edge, n in sorted(counts.items()):
            tall = max(2.0, (2 * ROW - 14) * math.log1p(n) / math.log1p(most))
            place = f'x="{LEFT + edge * room:.1f}" y="{base - tall:.1f}" width="{room - 2:.1f}" height="{tall:.1f}"'
            label = f"{n} parts, at most {_edge(edge)}"
            parts.append(f'<rect class="{cause.partition(".")[0]}" {place}><title>{label}</title></rect>')
    parts += [f'<text x="{LEFT + n * room:.1f}" y="{height - 6}">{_edge(n)}</text>' for n in range(0, 25, 5)]
    return _svg(height, "".join(parts), "distribution of the lag by dominant cause, log scale")


def _distribution_table(facts: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for cause in spread(facts):
        lags = [fact["lag_ms"] for fact in facts if fact["cause"] == cause]
        at = (lags[0], lags[(len(lags) - 1) // 2], lags[-1])
        rows.append((words("release", cause)[1], str(len(lags)), *map(_time, at)))
    return _table(("mostly because of", "parts", "shortest", "median", "longest"), rows)


def timeline(found: Report) -> str:
    """Draw what was reported and what was restored in each step of the window, and what happened when."""
    most = max((max(row["reported"], row["restored"]) for row in found.flow), default=1) or 1
    wide, tall = WIDTH - 60, 160
    parts = [f'<line class="axis" x1="40" y1="{tall}" x2="{WIDTH - 20}" y2="{tall}"/><text x="4" y="14">{most}</text>']
    for name in ("reported", "restored"):
        points = " ".join(
            f"{40 + n * wide / max(1, len(found.flow) - 1):.1f},{tall - (tall - 10) * row[name] / most:.1f}"
            for n, row in enumerate(found.flow)
        )
        parts.append(f'<polyline class="{name}" points="{points}"/>')
    start = found.flow[0]["from_at"]
    for mark in found.marks:
        share = (mark.at - start).total_seconds() / found.figures.seconds
        x = 40 + min(1.0, max(0.0, share)) * wide
        parts.append(f'<line class="mark" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{tall}"/>')
        parts.append(f'<text x="{x + 4:.1f}" y="24">{escape(mark.words)}</text>')
    parts.append(f'<text x="40" y="{tall + 18}">{escape(local(start))}: reported (violet), restored (green)</text>')
    counted = {name: str(sum(row[name] for row in found.flow)) for name in ("reported", "restored", "down")}
    rows = [("repayments reported", counted["reported"]), ("parts restored", counted["restored"]),
            ("parts that waited for a database or broker that was down", counted["down"])]  # fmt: skip
    return _svg(tall + 26, "".join(parts), "repayments reported and parts restored over time") + _table(
        ("in the window", "count"), rows
    )


def _svg(height: float, content: str, about: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(about)}">{content}</svg>'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _time(milliseconds: int | None) -> str:
    return "" if milliseconds is None else duration_text(milliseconds, EN)


def _edge(number: int) -> str:
    return "more" if number >= len(SECONDS) else duration_text(max(1, round(SECONDS[number] * 1000)), EN)
