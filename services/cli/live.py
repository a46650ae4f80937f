"""What the demo shows while it runs: titles, lines, and a table refreshed in place or as plain lines."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from services.cli.lag import Flow, percentile, seconds_text, stage_table
from services.cli.servers import Connection
from services.cli.terminal import stderr, stdout
from services.cli.windows import newest
from services.runtime.clock import monotonic

REFRESH_SECONDS: Final = 0.5
PLAIN_SECONDS: Final = 5.0
WINDOW_SECONDS: Final = 30.0


class Screen:
    """Where the demo speaks; ``plain`` is lines only, ``aside`` leaves standard output to a program."""

    def __init__(self, *, plain: bool, aside: bool = False) -> None:
        self.console: Console = stderr() if aside else stdout()
        self.plain = plain or not self.console.is_terminal

    def title(self, words: str) -> None:
        """Begin a part."""
        self.console.print()
        self.say(words, bold=True)

    def say(self, words: str, *, bold: bool = False) -> None:
        """Say one line."""
        self.console.print(Text(words, style="bold" if bold and not self.plain else ""), soft_wrap=self.plain)

    def story(self, heading: str, lines: Sequence[str]) -> None:
        """Tell of one repayment."""
        self.say(heading, bold=True)
        for line in lines:
            text = Text(line)
            self.console.print(
                f"  {line}" if self.plain else Padding(text, (0, 0, 0, 2)), markup=False, soft_wrap=self.plain
            )


class Watch:
    """Reads the flow twice a second and shows it, with what happened beside and what the live picture says."""

    def __init__(self, screen: Screen, flow: Flow, connection: Connection, picture: int) -> None:
        self.screen = screen
        self.flow = flow
        self.connection = connection
        self.picture = picture
        self.window: str | None = None
        self.begun = monotonic()
        self._live: Live | None = None
        self._read = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._last: tuple[float, int] = (self.begun, flow.received_count)
        self._said = self.begun
        self._rate = 0.0

    @property
    def seconds(self) -> float:
        """Return how long it has watched."""
        return monotonic() - self.begun

    def oldest_seconds(self) -> float:
        """Return how long ago the oldest repayment was repaid that waits in any stage; 0 when none waits."""
        since = min((reached.repaid_at for found in self.flow.waiting().values() for reached in found), default=None)
        return 0.0 if since is None else (self.flow.now - since).total_seconds()

    def note(self, words: str) -> None:
        """Tell what happened, above the table."""
        self.screen.say(f"{self.seconds:5.1f} s  {words}", bold=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Show the flow until the block ends; an error of the reading ends the block."""
        task = self._task = asyncio.create_task(self._follow())
        try:
            if self.screen.plain:
                yield
            else:
                with Live(self._shown(), console=self.screen.console, refresh_per_second=4) as self._live:
                    yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self.flow.read(self.connection)
        if self.screen.plain:
            self.screen.console.print(stage_table(self.flow, WINDOW_SECONDS))

    async def until(self, met: Callable[[], bool], seconds: float) -> bool:
        """Wait until something is true of the flow, at most so long; raise what broke the reading."""
        deadline = monotonic() + seconds
        while not met():
            left = deadline - monotonic()
            if left <= 0:
                return False
            self._read.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._read.wait()
            if self._task is not None and self._task.done():
                await self._task
        return True

    async def _follow(self) -> None:
        try:
            while True:
                await self._look()
                self._read.set()
                await asyncio.sleep(REFRESH_SECONDS)
        finally:
            self._read.set()

    async def _look(self) -> None:
        await self.flow.read(self.connection)
        self.window = await newest(self.picture)
        self._measure()
        if self._live is not None:
            self._live.update(self._shown())
        elif self.screen.plain and monotonic() - self._said >= PLAIN_SECONDS:
            self._said = monotonic()
            self.screen.say(f"{self.seconds:5.1f} s  {self._line()}")

    def _measure(self) -> None:
        """Work the rate out over the last second or more."""
        at, count = self._last
        if monotonic() - at >= 1.0:
            self._rate = (self.flow.received_count - count) / (monotonic() - at)
            self._last = (monotonic(), self.flow.received_count)

    def _shown(self) -> RenderableType:
        head = f"{self.seconds:.0f} s: {self._rate:.0f} repayments a second taken in; the last {WINDOW_SECONDS:.0f} s:"
        table = stage_table(self.flow, WINDOW_SECONDS)
        return Group(Text(), Text(head), table, Text(f"live picture: {self.window or 'nothing yet'}"))

    def _line(self) -> str:
        """Return the table in one line."""
        waits = self.flow.waiting()
        waiting = ", ".join(f"{stage} {len(found)}" for stage, found in waits.items() if found) or "nothing"
        held = sum(count for count, _ in self.flow.held.values())
        totals = [sample.total_ms for sample in self.flow.recent(WINDOW_SECONDS) if not sample.held]
        p50, p99 = percentile(totals, 0.5), percentile(totals, 0.99)
        lag = (
            "" if p50 is None or p99 is None else f"; restored at once p50 {seconds_text(p50)} p99 {seconds_text(p99)}"
        )
        return f"{self._rate:.0f}/s; waiting: {waiting}; oldest {self.oldest_seconds():.1f} s; parts held {held}{lag}"
