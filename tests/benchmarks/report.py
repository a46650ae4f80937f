"""Figures as tables and JSON: medians with their range, and ratios taken within each repetition."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final, Literal

from rich.console import Console
from rich.table import Table

from tests.benchmarks.turn import Turn

Figure = Callable[[Turn], float | None]
"""One figure of a turn; None when the contender was saturated or not asked."""
Repetition = Mapping[str, Turn]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of figures."""

    title: str
    figure: Figure
    digits: int = 1


@dataclass(frozen=True, slots=True)
class Target:
    """Ours against another: the floor, or whichever naive pipeline is better in that repetition."""

    title: str
    figure: Figure
    against: Literal["floor", "naive"]
    at: Literal["most", "least"]
    bound: float
    better: Callable[[Sequence[float]], float] = min


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a target came to; ``ratios`` has None where a saturated contender has no figure."""

    title: str
    bound: str
    ratios: tuple[float | None, ...]
    median: float | None
    met: bool | None


def _latency(rate: float, name: Literal["p50", "p99"]) -> Figure:
    def figure(turn: Turn) -> float | None:
        found: list[float | None] = [getattr(each, name) for each in turn.latencies if each.rate == rate]
        return found[0] if found else None

    return figure


def _sustained(turn: Turn) -> float:
    return turn.drain.per_second


def _whole(turn: Turn) -> float:
    return turn.drain.per_second_whole


def _workers_cpu(turn: Turn) -> float:
    return turn.cpu_per_thousand.workers


ROWS: Final = (
    Row("p50 at 20/s, ms", _latency(20, "p50")),
    Row("p99 at 20/s, ms", _latency(20, "p99")),
    Row("p50 at 100/s, ms", _latency(100, "p50")),
    Row("p99 at 100/s, ms", _latency(100, "p99")),
    Row("sustained /s (10-90 % of completions)", _sustained, 0),
    Row("sustained /s (release to last)", _whole, 0),
    Row("worker CPU s / 1,000", _workers_cpu, 3),
    Row("PostgreSQL CPU s / 1,000", lambda turn: turn.cpu_per_thousand.postgres, 3),
    Row("Kafka CPU s / 1,000", lambda turn: turn.cpu_per_thousand.kafka, 3),
    Row("RSS of the largest worker, MB", lambda turn: max(turn.rss_mb.values()), 0),
)
TARGETS: Final = (
    Target("p50 at 20/s : floor", _latency(20, "p50"), "floor", "most", 2.0),
    Target("p50 at 100/s : floor", _latency(100, "p50"), "floor", "most", 2.0),
    Target("p99 at 20/s : floor", _latency(20, "p99"), "floor", "most", 3.0),
    Target("p99 at 100/s : floor", _latency(100, "p99"), "floor", "most", 3.0),
    Target("p50 at 20/s : better naive", _latency(20, "p50"), "naive", "most", 0.8),
    Target("sustained, 10-90 % : better naive", _sustained, "naive", "least", 15.0, max),
    Target("sustained, 10-90 % : floor", _sustained, "floor", "least", 0.2),
    Target("sustained, whole : better naive", _whole, "naive", "least", 15.0, max),
    Target("sustained, whole : floor", _whole, "floor", "least", 0.2),
    Target("worker CPU : better naive", _workers_cpu, "naive", "most", 0.1),
)


def verdicts(repetitions: Sequence[Repetition], naive: Sequence[str]) -> list[Verdict]:
    """Return what every target came to."""
    return [_verdict(target, repetitions, naive) for target in TARGETS]


def _verdict(target: Target, repetitions: Sequence[Repetition], naive: Sequence[str]) -> Verdict:
    names = ("floor",) if target.against == "floor" else naive
    ratios = tuple(_ratio(target, repetition, names) for repetition in repetitions)
    known = [ratio for ratio in ratios if ratio is not None]
    middle = median(known) if len(known) == len(ratios) and known else None
    met = False if any(_saturated(target, repetition) for repetition in repetitions) else None
    if met is None and middle is not None:
        met = middle <= target.bound if target.at == "most" else middle >= target.bound
    return Verdict(target.title, f"at {target.at} {target.bound:g}", ratios, middle, met)


def _saturated(target: Target, repetition: Repetition) -> bool:
    """Tell whether ours has no figure where it was asked for one: that is no target met."""
    return "ours" in repetition and target.figure(repetition["ours"]) is None


def _ratio(target: Target, repetition: Repetition, names: Sequence[str]) -> float | None:
    ours = target.figure(repetition["ours"]) if "ours" in repetition else None
    found = [target.figure(repetition[name]) for name in names if name in repetition]
    others = [figure for figure in found if figure is not None]
    return ours / target.better(others) if ours is not None and others else None


def show(repetitions: Sequence[Repetition], naive: Sequence[str], machine: Mapping[str, object]) -> None:
    """Print figures, ratios and where they were taken."""
    console = Console(width=None if Console().is_terminal else 140)
    names = list(repetitions[0])
    table = Table(title=f"median (min - max) of {len(repetitions)}")
    for title in ("", *names):
        table.add_column(title)
    for row in ROWS:
        cells = [_cell([row.figure(each[name]) for each in repetitions], row.digits) for name in names]
        table.add_row(row.title, *cells)
    console.print(table)
    if "ours" in names and len(names) > 1:
        console.print(_ratios(verdicts(repetitions, naive)))
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()))


def _ratios(found: Sequence[Verdict]) -> Table:
    table = Table(title="ours in ratio to the others, within each repetition")
    for title in ("ours", "target", "each repetition", "median", ""):
        table.add_column(title)
    for each in found:
        listed = "  ".join(_number(ratio, 2) for ratio in each.ratios)
        met = "-" if each.met is None else "met" if each.met else "NOT MET"
        table.add_row(each.title, each.bound, listed, _number(each.median, 2), met)
    return table


def _cell(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return f"saturated {len(values) - len(known)} of {len(values)}"
    middle, least, most = (f"{value:,.{digits}f}" for value in (median(known), min(known), max(known)))
    return f"{middle} ({least} - {most})"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def as_json(
    repetitions: Sequence[Repetition], naive: Sequence[str], machine: Mapping[str, object]
) -> dict[str, object]:
    """Return everything measured, every repetition by itself."""
    return {
        "machine": dict(machine),
        "repetitions": [{name: asdict(turn) for name, turn in each.items()} for each in repetitions],
        "ratios": [asdict(each) for each in verdicts(repetitions, naive)],
    }


def write_json(path: Path | None, found: Mapping[str, object]) -> None:
    """Write a report's JSON, if it was asked for."""
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n")
