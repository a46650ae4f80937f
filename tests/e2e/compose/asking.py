"""What the proof asks a running project: is it healthy, what do its books say, what does PostgreSQL answer a role?"""

import json
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.e2e.compose.engine import Engine

TAKEN: Final = "SELECT count(*) FROM repayment_ingest.reference WHERE source <> 'probe'"
PATIENCE_SECONDS: Final = 400
"""Far beyond what anything takes on a slow machine; the figures are shown beside what the design names."""


def eventually(met: Callable[[], bool], what: str) -> float:
    """Wait until something is so, and return how long it took."""
    begun = time.monotonic()
    while not met():
        assert time.monotonic() - begun < PATIENCE_SECONDS, f"not in time: {what}"
        time.sleep(0.2)
    return time.monotonic() - begun


def healthy(up: Engine, service: str) -> bool:
    return up.inspect(service, "{{.State.Status}} {{.State.Health.Status}}") == "running healthy"


def otb(up: Engine, *command: str) -> Any:
    """Run an otb command as the owner and return its JSON; its exit code says what it found."""
    return json.loads(up.ask(*up.compose("run", "--rm", "-T", "--no-deps", "otb", *command, "--json")).stdout)


def settled(up: Engine, repayments: int) -> None:
    """Wait until the books know so many repayments beside the probe's and every invariant holds."""
    found: dict[str, Any] = {}

    def so() -> bool:
        found.update(otb(up, "check"))
        return bool(found["ok"]) and taken(up) == repayments

    try:
        eventually(so, "the invariants hold")
    except AssertionError:
        broken = [finding for finding in found["findings"] if finding["violations"]]
        pytest.fail(f"wanted {repayments} repayments: {found['counts']} {broken}")


def taken(up: Engine) -> int:
    """Return how many repayments of billing the books know."""
    ((count,), _) = psql(up, "otb_owner", TAKEN)
    return int(count)


def sent(up: Engine, container: str) -> int:
    """Wait until a simulator's container has ended, and return how many distinct repayments it reports."""
    asked = ("docker", "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", container)
    eventually(lambda: up.run(*asked).startswith("exited"), f"{container} sent everything")
    assert up.run(*asked).split() == ["exited", "0"]
    count: int = json.loads(up.run("docker", "logs", container).splitlines()[-1])["distinct_repayments"]
    return count


def psql(up: Engine, role: str, *statements: str) -> tuple[list[str], list[str]]:
    """Run statements one by one as a role, its password from its secret; return its answers and what was refused."""
    password = (up.checkout / "deploy" / "secrets" / role).read_text()
    asked = ("psql", "-qAt", "-h", "127.0.0.1", "-U", role, "-d", "otb", "-f", "-")
    options = ("-e", f"PGPASSWORD={password}")
    done = up.inside("postgres", *asked, given="".join(f"{line};\n" for line in statements), options=options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), [line for line in done.stderr.splitlines() if "ERROR:" in line]
