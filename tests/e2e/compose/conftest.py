"""One engine for the whole run."""

from collections.abc import Iterator

import pytest

from tests.e2e.compose.engine import Engine, engine


@pytest.fixture(scope="session")
def running() -> Iterator[Engine]:
    """Run an engine with every image built."""
    with engine() as started:
        yield started
