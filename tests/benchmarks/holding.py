"""What deciding by the formula costs: five workers with it, against the same five with the schedule, in pairs.

python -m tests.benchmarks.holding [--pairs 4] [--latency-seconds 20] [--backlog 20000]
"""

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from services.cli.hindsight import Method
from services.cli.system import System
from services.profiles import FOLDER
from tests.benchmarks.bed import BenchmarkError, bed, open_accounts
from tests.benchmarks.contenders import Contender
from tests.benchmarks.contenders.ours import OURS
from tests.benchmarks.facts import facts
from tests.benchmarks.load import PRODUCT
from tests.benchmarks.report import write_json
from tests.benchmarks.turn import Asked, Turn, take_turn
from tests.benchmarks.watching import RATES, Pair, costs, show

RAIL: Final = "direct_debit"
"""It may take money back, so a method decides; so little is repaid that both give all of it back at once."""
SIDES: Final = (Method.SCHEDULE.value, Method.FORMULA.value)
ACCOUNTS: Final = 6_000
"""So many that four pairs leave every account within the schedule's instant cap."""


def side(method: str, folder: Path) -> Contender:
    """Return the five workers under a copy of the policy in which ``method`` decides on the benchmark's product."""
    policy = folder / method
    shutil.copytree(FOLDER, policy)
    file = policy / f"{PRODUCT}.toml"
    lines = file.read_text().splitlines(keepends=True)
    (place,) = (n for n, line in enumerate(lines) if line.startswith("method = "))
    lines[place] = f'method = "{method}"\n'
    file.write_text("".join(lines))

    async def start(system: System) -> None:
        await OURS.start(replace(system, settings=system.settings.model_copy(update={"policy_dir": policy})))

    return replace(OURS, name=method, start=start)


async def measure(system: System, asked: argparse.Namespace, folder: Path) -> tuple[list[Pair], Mapping[str, object]]:
    """Measure pairs; which side goes first alternates."""
    machine = await facts(system)
    await open_accounts(system, asked.accounts)
    sides = [side(method, folder) for method in SIDES]
    pairs: list[Pair] = []
    for number in range(asked.pairs):
        turns: dict[str, Turn] = {}
        for each in sides if number % 2 == 0 else sides[::-1]:
            sys.stderr.write(f"pair {number + 1} of {asked.pairs}: {each.name}\n")
            turns[each.name] = await take_turn(system, each, _asked(asked, number))
        pairs.append(turns)
    return pairs, {**machine, "load_average_after": round(os.getloadavg()[0], 2)}


def _asked(asked: argparse.Namespace, number: int) -> Asked:
    return Asked(
        run=f"h{number}",
        accounts=asked.accounts,
        backlog=asked.backlog,
        rates=RATES,
        latency_seconds=asked.latency_seconds,
        rail=RAIL,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when the formula costs at most 5 % of every figure more than the schedule, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.holding", description=__doc__)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--latency-seconds", type=float, default=20.0, help="length of each open loop")
    parser.add_argument("--backlog", type=int, default=20_000, help="repayments drained by each side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    asked = parser.parse_args(arguments)
    try:
        with TemporaryDirectory(prefix="otb-policy-") as folder, bed() as system:
            pairs, machine = asyncio.run(measure(system, asked, Path(folder)))
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    found = costs(pairs, SIDES)
    show(found, machine, "The formula against the schedule, each pair", SIDES)
    told = [{name: asdict(turn) for name, turn in pair.items()} for pair in pairs]
    write_json(asked.json, {"machine": machine, "pairs": told, "costs": found})
    return int(not all(each["met"] for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
