"""Run a contender's stages as programs under the stack's supervisor, as the real workers run."""

import asyncio
import sys
from collections.abc import Sequence

from deploy.embedded import Program
from services.cli.system import System, environment
from tests.benchmarks.bed import REPOSITORY


async def start_programs(system: System, module: str, stages: Sequence[str]) -> None:
    """Start ``python -m module <number>`` for every stage, in the order of the pipeline."""
    variables = environment(system.settings)
    programs = [
        Program(
            name=name,
            command=[sys.executable, "-m", module, str(number)],
            environment=variables,
            directory=str(REPOSITORY),
        )
        for number, name in enumerate(stages)
    ]
    await asyncio.to_thread(system.stack.run, programs)
