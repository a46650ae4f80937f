"""Compare the five workers with bare Kafka hops and with two naive pipelines, interleaved in one run.

python -m tests.benchmarks.pipeline [--repetitions 3] [--quick] [--only ours,floor] [--json FILE]
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from services.cli.system import System
from tests.benchmarks.bed import BenchmarkError, bed, open_accounts
from tests.benchmarks.contenders import Contender
from tests.benchmarks.contenders.floor import FLOOR
from tests.benchmarks.contenders.naive_faststream import NAIVE_FASTSTREAM
from tests.benchmarks.contenders.naive_faust import NAIVE_FAUST
from tests.benchmarks.contenders.ours import OURS
from tests.benchmarks.facts import facts
from tests.benchmarks.report import as_json, show, verdicts, write_json
from tests.benchmarks.turn import Asked, Turn, take_turn

CONTENDERS: Final = {each.name: each for each in (FLOOR, NAIVE_FAUST, NAIVE_FASTSTREAM, OURS)}
NAIVE: Final = tuple(each.name for each in CONTENDERS.values() if each.naive)
RATES: Final = (20.0, 100.0)
BROKER_WARM: Final = Asked("broker", 0, backlog=2_000, rates=(200.0,), latency_seconds=20.0, warm_seconds=0.0)
"""A broker that just started spends twice the CPU on a request while Java compiles: bare hops, not reported."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of the whole run."""

    contenders: tuple[Contender, ...]
    repetitions: int
    accounts: int
    latency_seconds: float
    warm_seconds: float
    backlog: int
    backlog_naive: int

    def asked(self, contender: Contender, repetition: int) -> Asked:
        return Asked(
            run=f"r{repetition}",
            accounts=self.accounts,
            backlog=self.backlog_naive if contender.naive else self.backlog,
            rates=RATES,
            latency_seconds=self.latency_seconds,
            warm_seconds=self.warm_seconds,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when every target that was measured is met, 1 otherwise."""
    asked = _parser().parse_args(arguments)
    plan = _plan(asked)
    try:
        with bed() as system:
            repetitions, machine = asyncio.run(_run(system, plan))
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    show(repetitions, NAIVE, machine)
    write_json(asked.json, as_json(repetitions, NAIVE, machine))
    return int(any(each.met is False for each in verdicts(repetitions, NAIVE)))


async def _run(system: System, plan: Plan) -> tuple[list[dict[str, Turn]], dict[str, object]]:
    machine = await facts(system)
    await open_accounts(system, plan.accounts)
    for contender in plan.contenders if FLOOR in plan.contenders else (FLOOR, *plan.contenders):
        await contender.prepare(system)
    sys.stderr.write("the broker warms up\n")
    await take_turn(system, FLOOR, replace(BROKER_WARM, accounts=plan.accounts))
    repetitions: list[dict[str, Turn]] = []
    for number in range(plan.repetitions):
        repetitions.append({})
        for contender in plan.contenders:
            sys.stderr.write(f"repetition {number + 1} of {plan.repetitions}: {contender.name}\n")
            repetitions[-1][contender.name] = await take_turn(system, contender, plan.asked(contender, number))
    machine["load_average_after"] = round(os.getloadavg()[0], 2)
    return repetitions, machine


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pipeline", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short repetition, within three minutes")
    parser.add_argument("--only", default=",".join(CONTENDERS), help=f"some of {','.join(CONTENDERS)}")
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--latency-seconds", type=float, default=20.0, help="length of each open loop")
    parser.add_argument("--backlog", type=int, default=20_000, help="repayments drained by ours and the floor")
    parser.add_argument("--backlog-naive", type=int, default=2_000, help="repayments drained by the naive pipelines")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    return parser


def _plan(asked: argparse.Namespace) -> Plan:
    names = asked.only.split(",")
    unknown = sorted(set(names) - CONTENDERS.keys())
    if unknown:
        sys.exit(f"no contender {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    contenders = tuple(each for name, each in CONTENDERS.items() if name in names)
    if asked.quick:
        return Plan(contenders, 1, 500, 4.0, 2.0, 4_000, 400)
    return Plan(
        contenders=contenders,
        repetitions=asked.repetitions,
        accounts=asked.accounts,
        latency_seconds=asked.latency_seconds,
        warm_seconds=3.0,
        backlog=asked.backlog,
        backlog_naive=asked.backlog_naive,
    )


if __name__ == "__main__":
    sys.exit(main())
