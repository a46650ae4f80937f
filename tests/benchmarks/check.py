"""`otb check` on books of 200,000 repayments: the whole command, and what each invariant of it takes.

python -m tests.benchmarks.check [--repayments 200000] [--repetitions 5] [--json FILE]
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from services.cli.checks import ASK, MEMORY, VIEWS
from services.cli.system import System, provision
from services.runtime.clock import monotonic
from services.runtime.settings import Settings
from tests.benchmarks.bed import BenchmarkError, bed
from tests.benchmarks.books import fill
from tests.benchmarks.report import write_json
from tests.integration.support import owner

MOST_SECONDS: Final = 5.0
"""What a whole run may take (reliability 2)."""
SLOWEST: Final = 8
TRIES: Final = 15


async def measure(system: System, asked: argparse.Namespace) -> dict[str, Any]:
    """Fill the books, run the command, and ask each view alone."""
    await provision(system.settings)
    began = monotonic()
    rows = await fill(system.settings, asked.repayments)
    sys.stderr.write(f"filled in {monotonic() - began:.0f} s: {rows}\n")
    await warm(system.settings)
    runs = [await asyncio.to_thread(checked, system.settings) for _ in range(asked.repetitions)]
    seconds = sorted(run[0] for run in runs)
    return {
        **runs[-1][1],
        "seconds": round(median(seconds), 2),
        "seconds_least": round(seconds[0], 2),
        "seconds_most": round(seconds[-1], 2),
        "load_average": round(os.getloadavg()[0], 2),
        "slowest_ms": await slowest(system.settings),
        "rows": rows,
    }


async def warm(settings: Settings) -> None:
    """Run the command until the broker, which nobody asked for a group yet, has a coordinator for them."""
    for left in reversed(range(TRIES)):
        try:
            await asyncio.to_thread(checked, settings)
            return
        except BenchmarkError:
            if not left:
                raise
            await asyncio.sleep(2)


def checked(settings: Settings) -> tuple[float, dict[str, int]]:
    """Run the command as a person does; return its seconds, from start to end, and what it looked at."""
    environment = {**os.environ, "OTB_STATE_DIR": str(settings.state_dir)}
    began = monotonic()
    command = [sys.executable, "-m", "services.cli.main", "check", "--json"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    took = monotonic() - began
    if ran.returncode:
        raise BenchmarkError(f"the books are not honest: {ran.stdout[-3000:]} {ran.stderr[-2000:]}")
    counts: dict[str, int] = json.loads(ran.stdout)["counts"]
    return took, counts


async def slowest(settings: Settings) -> dict[str, int]:
    """Return what takes longest, milliseconds."""
    took = {}
    async with owner(settings) as connection:
        await connection.execute(f"SET jit = off; {MEMORY}")
        for row in await connection.fetch(VIEWS):
            view = f"{row['schemaname']}.{row['viewname']}"
            began = monotonic()
            await connection.fetch(ASK.format(view=view))
            took[view] = round((monotonic() - began) * 1000)
    return dict(sorted(took.items(), key=lambda each: -each[1])[:SLOWEST])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured; 1 when a run took longer than it may."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.check", description=__doc__)
    parser.add_argument("--repayments", type=int, default=200_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    asked = parser.parse_args(arguments)
    try:
        with bed() as system:
            found = asyncio.run(measure(system, asked))
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    for name, value in found.items():
        sys.stdout.write(f"{name:>20}  {value}\n")
    write_json(asked.json, found)
    return 0 if found["seconds"] <= MOST_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
