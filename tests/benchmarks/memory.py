"""Watch the memory of the five workers while many repayments pass.

python -m tests.benchmarks.memory [--repayments 100000] [--json FILE]
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from services.cli.system import System
from tests.benchmarks.bed import BenchmarkError, bed, open_accounts
from tests.benchmarks.contenders.ours import OURS
from tests.benchmarks.facts import facts
from tests.benchmarks.report import write_json
from tests.benchmarks.turn import Asked, running

MOST_MB: Final = 110.0
FLAT: Final = 1.05
"""Flat: at the end at most this ratio of what was used when a quarter had passed."""
SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
Samples = Sequence[tuple[float, Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Use:
    """One worker's resident memory in megabytes, at shares of the work and at most."""

    at: tuple[float, ...]
    highest: float

    @property
    def flat(self) -> bool:
        return self.at[-1] <= FLAT * self.at[1]


def uses(samples: Samples) -> dict[str, Use]:
    """Return each worker's use; the sample nearest to each share counts."""
    nearest = [min(samples, key=lambda sample: abs(sample[0] - share))[1] for share in SHARES]
    nearest[0], nearest[-1] = samples[0][1], samples[-1][1]
    return {
        name: Use(tuple(sample[name] for sample in nearest), max(sample[name] for _, sample in samples))
        for name in samples[0][1]
    }


async def _watch(system: System, repayments: int, accounts: int) -> tuple[dict[str, Use], dict[str, object]]:
    machine = await facts(system)
    await open_accounts(system, accounts)
    async with running(system, OURS) as bench:
        await bench.flood(Asked(run="memory", accounts=accounts, backlog=repayments))
        return uses(bench.memory.samples), machine


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when every worker is small and flat, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.memory", description=__doc__)
    parser.add_argument("--repayments", type=int, default=100_000)
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    asked = parser.parse_args(arguments)
    try:
        with bed() as system:
            found, machine = asyncio.run(_watch(system, asked.repayments, asked.accounts))
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    _show(found, asked.repayments, machine)
    workers = {name: {"at": use.at, "highest": use.highest, "flat": use.flat} for name, use in found.items()}
    write_json(asked.json, {"machine": machine, "repayments": asked.repayments, "rss_mb": workers})
    return int(any(use.highest > MOST_MB or not use.flat for use in found.values()))


def _show(found: Mapping[str, Use], repayments: int, machine: Mapping[str, object]) -> None:
    console = Console(width=None if Console().is_terminal else 140)
    table = Table(title=f"RSS in MB while {repayments:,} repayments pass (at most {MOST_MB:g}, flat from 25 % on)")
    for title in ("", *(f"{share:.0%}" for share in SHARES), "max", ""):
        table.add_column(title)
    for name, use in found.items():
        met = "met" if use.highest <= MOST_MB and use.flat else "NOT MET"
        table.add_row(name, *(f"{each:.1f}" for each in use.at), f"{use.highest:.1f}", met)
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()))


if __name__ == "__main__":
    sys.exit(main())
