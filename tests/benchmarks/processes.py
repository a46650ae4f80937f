"""What processes of the stack use: CPU seconds and resident memory, by pid."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import psutil

from services.cli.system import System
from tests.benchmarks.bed import BenchmarkError

MEGABYTE = 2**20
SAMPLE_SECONDS = 0.5
LOG_LINES = 25


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds since each process began."""

    workers: float
    postgres: float
    kafka: float

    def since(self, before: "Cpu") -> "Cpu":
        return Cpu(self.workers - before.workers, self.postgres - before.postgres, self.kafka - before.kafka)

    def per_thousand(self, repayments: int) -> "Cpu":
        share = 1000 / repayments
        return Cpu(self.workers * share, self.postgres * share, self.kafka * share)


def pids(system: System, names: Iterable[str]) -> dict[str, int]:
    """Return the pid of each program; raise BenchmarkError for one that crashed or does not run."""
    running = {each.name: each for each in system.stack.processes()}
    found: dict[str, int] = {}
    for name in names:
        process = running.get(name)
        if process is None or process.pid is None or process.restarts:
            raise BenchmarkError(f"{name} crashed\n{last_lines(system, [name])}")
        found[name] = process.pid
    return found


def last_lines(system: System, names: Iterable[str]) -> str:
    """Return the end of each program's log: the state folder is gone when the benchmark ends."""
    lines: list[str] = []
    for name in names:
        log = system.stack.logs_dir / f"{name}.log"
        lines.append(f"---- {name}")
        lines += log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log.exists() else []
    return "\n".join(lines)


def cpu(workers: Mapping[str, int], servers: Mapping[str, int]) -> Cpu:
    """Read what the workers, PostgreSQL with all its backends, and Kafka have used."""
    return Cpu(
        sum(_used(psutil.Process(pid)) for pid in workers.values()),
        _used_with_children(psutil.Process(servers["postgres"])),
        _used(psutil.Process(servers["kafka"])),
    )


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _used_with_children(process: psutil.Process) -> float:
    """Add running children to those already gone, whose time the parent keeps."""
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children():
        try:
            total += _used(child)
        except psutil.NoSuchProcess:
            continue
    return total


class Memory:
    """Samples the resident memory of workers, each sample with how far the work was."""

    def __init__(self, workers: Mapping[str, int], progress: Callable[[], float] = lambda: 0.0) -> None:
        self._workers = {name: psutil.Process(pid) for name, pid in workers.items()}
        self._progress = progress
        self.samples: list[tuple[float, dict[str, float]]] = []

    async def sample(self) -> None:
        """Sample until cancelled."""
        while True:
            self.take()
            await asyncio.sleep(SAMPLE_SECONDS)

    def take(self) -> None:
        """Take one sample, in megabytes."""
        found = {name: process.memory_info().rss / MEGABYTE for name, process in self._workers.items()}
        self.samples.append((self._progress(), found))

    def highest(self) -> dict[str, float]:
        """Return the most each worker used."""
        return {name: max(sample[name] for _, sample in self.samples) for name in self._workers}


def suspend(pid: int) -> None:
    """Stop a process where it stands."""
    psutil.Process(pid).suspend()


def resume(found: Sequence[int]) -> None:
    """Let processes go on."""
    for pid in found:
        psutil.Process(pid).resume()
