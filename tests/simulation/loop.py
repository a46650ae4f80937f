"""An event loop on a clock of its own: nothing waits, time goes to the next thing that happens."""

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from heapq import heappop, heappush
from types import coroutine
from typing import Any, TypeVarTuple

from typing_extensions import override

Ts = TypeVarTuple("Ts")
SAME_INSTANT = 1e-9
"""What is due within so many seconds is due now."""


class StandsStill(Exception):
    """Nothing will ever happen any more: a wait without a deadline."""


@coroutine
def a_round() -> Generator[None, None, None]:
    """Let every other task that can run go first: asyncio.sleep(0) without a frame more in each task's chain."""
    yield


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Call(list[Any]):
    """When, its number, what and with what: a handle that the heap compares without asking Python."""

    __slots__ = ()

    def cancel(self) -> None:
        self[2] = None


class Loop(asyncio.BaseEventLoop):
    """asyncio's own tasks and futures with simulated time; calls of one instant run in the order they were asked for.

    What asyncio does for a real loop and nobody needs here is left out: sockets, threads, contexts, debugging.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._soon: deque[_Call] = deque()
        self._later: list[_Call] = []
        self._numbers = 0
        self._stopping = False
        self.create_future = partial(asyncio.Future, loop=self)  # type: ignore[method-assign]

    @override
    def time(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Wait as asyncio.sleep() does, which asks the operating system each time whose loop this is."""
        future = self.create_future()
        call = self.call_later(seconds, _wake, future)
        try:
            await future
        finally:
            call.cancel()

    @override
    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Any = None) -> Any:
        call = _Call((0.0, 0, callback, args))
        self._soon.append(call)
        return call

    @override
    def call_later(self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Any = None) -> Any:
        self._numbers += 1
        call = _Call((self.seconds + delay, self._numbers, callback, args))
        heappush(self._later, call)
        return call

    @override
    def call_at(self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Any = None) -> Any:
        self._numbers += 1
        call = _Call((when, self._numbers, callback, args))
        heappush(self._later, call)
        return call

    def _run_once(self) -> None:
        """Run round after round until stopped: asyncio's own run_forever() would ask for each round."""
        soon, later = self._soon, self._later
        end = self.seconds + SAME_INSTANT
        while True:
            if not soon:
                while later and later[0][2] is None:
                    heappop(later)
                if not later:
                    raise StandsStill("no task has anything to wait for")
                self.seconds += max(0.0, later[0][0] - self.seconds)
                end = self.seconds + SAME_INSTANT
            while later and later[0][0] < end:
                soon.append(heappop(later))
            for _ in range(len(soon)):
                _, _, callback, args = soon.popleft()
                if callback is not None:
                    try:
                        callback(*args)
                    except Exception as error:  # noqa: BLE001  # what one call raises is not the next one's
                        self.call_exception_handler({"message": "a call failed", "exception": error})
            if self._stopping:
                return
