"""Facts of the machine and the servers a figure belongs to."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

from deploy.embedded.jars import kafka_version, read_lock
from services.cli.system import System
from services.runtime.clock import utc_now
from tests.benchmarks.bed import fetch

LIBRARIES = ("aiokafka", "asyncpg", "faust-streaming", "faststream", "pydantic", "uvloop")


async def facts(system: System) -> dict[str, object]:
    """Return what a reader needs to compare figures; the load average tells whether others were at work."""
    rows = await fetch(system.settings, "SHOW server_version")
    return {
        "date": utc_now().isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "model": _model(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgresql": str(rows[0][0]),
        "kafka": kafka_version(read_lock()),
        "partitions": system.settings.partitions,
        "load_average_before": round(os.getloadavg()[0], 2),
        **{name: version(name) for name in LIBRARIES},
    }


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.machine()
