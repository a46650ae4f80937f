"""Cost of a repayment with full tables against empty ones, interleaved, on two stacks of their own.

python -m tests.benchmarks.growth [--repetitions 3] [--inbox 1000000] [--accounts 100000] [--json FILE]
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from services.cli.system import System
from tests.benchmarks.bed import BenchmarkError, bed, open_accounts
from tests.benchmarks.contenders.ours import OURS
from tests.benchmarks.facts import facts
from tests.benchmarks.preload import preload_accounts, preload_inboxes
from tests.benchmarks.report import write_json
from tests.benchmarks.turn import Asked, Turn, take_turn

MOST: Final = 1.3
OPENED: Final = 2_000
"""Accounts of the empty system; the full one has them too, and repayments of all its accounts."""
FIRST: Final = 100
"""Repayments of an uncounted turn, after which every inbox has a row to copy."""
COSTS: Final = ("ms a repayment, 10-90 %", "ms a repayment, whole", "worker + PostgreSQL CPU, ms a repayment")


def costs(turn: Turn) -> tuple[float, ...]:
    """Return what COSTS names."""
    cpu = turn.cpu_per_thousand
    return 1000 / turn.drain.per_second, 1000 / turn.drain.per_second_whole, cpu.workers + cpu.postgres


async def _compare(
    empty: System, full: System, asked: argparse.Namespace
) -> tuple[list[tuple[Turn, Turn]], dict[str, object]]:
    machine = await facts(empty)
    opened = min(OPENED, asked.accounts)
    for system in (empty, full):
        await open_accounts(system, opened)
    sys.stderr.write(f"preloading {asked.inbox:,} inbox rows a service and {asked.accounts:,} accounts\n")
    await preload_accounts(full, range(opened, asked.accounts))
    for system in (empty, full):
        await take_turn(system, OURS, Asked(run="first", accounts=opened, backlog=FIRST))
    await preload_inboxes(full, asked.inbox)
    pairs = []
    for number in range(asked.repetitions):
        sys.stderr.write(f"repetition {number + 1} of {asked.repetitions}\n")
        with_none = await take_turn(empty, OURS, _asked(number, opened, asked.backlog))
        pairs.append((with_none, await take_turn(full, OURS, _asked(number, asked.accounts, asked.backlog))))
    return pairs, machine


def _asked(repetition: int, accounts: int, backlog: int) -> Asked:
    return Asked(run=f"g{repetition}", accounts=accounts, backlog=backlog)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when no median ratio is above MOST, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--inbox", type=int, default=1_000_000, help="rows preloaded in each service's inbox")
    parser.add_argument("--accounts", type=int, default=100_000, help="accounts of the full system")
    parser.add_argument("--backlog", type=int, default=20_000, help="repayments drained each time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    asked = parser.parse_args(arguments)
    try:
        with bed() as empty, bed() as full:
            pairs, machine = asyncio.run(_compare(empty, full, asked))
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    ratios = _ratios(pairs)
    _show(pairs, ratios, machine)
    turns = [{"empty": asdict(none), "full": asdict(full_turn)} for none, full_turn in pairs]
    write_json(asked.json, {"machine": machine, "turns": turns, "ratios": dict(zip(COSTS, ratios, strict=True))})
    return int(any(median(each) > MOST for each in ratios))


def _ratios(pairs: Sequence[tuple[Turn, Turn]]) -> list[list[float]]:
    """Return full : empty in each repetition, for each cost."""
    listed = [(costs(none), costs(full)) for none, full in pairs]
    return [[full[at] / none[at] for none, full in listed] for at in range(len(COSTS))]


def _show(pairs: Sequence[tuple[Turn, Turn]], ratios: Sequence[Sequence[float]], machine: Mapping[str, object]) -> None:
    console = Console(width=None if Console().is_terminal else 140)
    table = Table(title=f"full tables against empty ones (at most {MOST:g})")
    for title in ("", "empty", "full", "each repetition", "median", ""):
        table.add_column(title)
    for at, name in enumerate(COSTS):
        none, full = (median(costs(pair[side])[at] for pair in pairs) for side in (0, 1))
        listed, middle = "  ".join(f"{ratio:.2f}" for ratio in ratios[at]), median(ratios[at])
        met = "met" if middle <= MOST else "NOT MET"
        table.add_row(name, f"{none:.3f}", f"{full:.3f}", listed, f"{middle:.2f}", met)
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()))


if __name__ == "__main__":
    sys.exit(main())
