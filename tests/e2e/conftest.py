"""The five workers as processes under the stack's supervisor."""

from collections.abc import Iterator

import pytest

from services.cli.system import System, start_workers, wait_ready
from services.runtime.settings import Settings
from tests.conftest import run_apart


@pytest.fixture
def workers(system: System, empty_kafka: Settings) -> Iterator[System]:
    """Run the five workers on a fresh database and topics without records."""
    running = System(empty_kafka, system.stack)
    ports = start_workers(running)
    try:
        run_apart(wait_ready(ports))
        yield running
    finally:
        system.stack.stop(list(ports))
