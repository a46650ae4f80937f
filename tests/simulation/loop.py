"""An event loop on a clock of its own: nothing waits, time goes to the next thing that happens."""

import asyncio
from collections.abc import Callable
from typing import Any

from typing_extensions import override


class StandsStill(Exception):
    """Nothing will ever happen any more: a wait without a deadline."""


class _Selector:
    """Turns a wait for sockets, of which there are none, into time that has passed."""

    def __init__(self, passed: Callable[[float], None]) -> None:
        self._passed = passed

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise StandsStill("no task has anything to wait for")
        if timeout > 0:
            self._passed(timeout)
        return []


class Loop(asyncio.BaseEventLoop):
    """asyncio's own loop with simulated time; callbacks run in the order they were scheduled in."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._selector = _Selector(self._pass)
        self._clock_resolution = 1e-9

    def _pass(self, seconds: float) -> None:
        self.seconds += seconds

    @override
    def time(self) -> float:
        return self.seconds

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no sockets."""
