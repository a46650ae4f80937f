"""What every command shares: exit codes, one line for what went wrong, output for people or programs, progress."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from services.runtime.clock import monotonic

if TYPE_CHECKING:  # a list of commands, and JSON, are written without it
    from rich.console import Console
    from rich.table import Table

OK: Final = 0
FOUND: Final = 1
USAGE: Final = 2
ENVIRONMENT: Final = 3
NOT_FOUND: Final = 4
EPILOG: Final = (
    "Exit codes: 0 ok, 1 found a problem, 2 usage, 3 environment (a server, a setting, a file), 4 not found; "
    "130 and 143 when interrupted. An id may be a unique prefix, or billing's reference, as external_ref or "
    "source:external_ref."
)
WIDTH: Final = 200
"""Columns of output that is not a terminal's."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class Problem(Exception):
    """What a person is told in one line, and the exit code that goes with it."""

    def __init__(self, message: str, code: int = ENVIRONMENT) -> None:
        super().__init__(message)
        self.code = code


def stdout() -> "Console":
    """Return where results go: colourless and of a fixed width when it is not a terminal."""
    return _console(sys.stdout.isatty(), stderr=False)


def stderr() -> "Console":
    """Return where progress and errors go."""
    return _console(sys.stderr.isatty(), stderr=True)


def _console(terminal: bool, *, stderr: bool) -> "Console":
    from rich.console import Console

    width = None if terminal else WIDTH
    return Console(stderr=stderr, highlight=False, soft_wrap=not terminal, no_color=not terminal, width=width)


def print_json(value: object) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=plain_json) + "\n")


def plain_json(value: object) -> object:
    """Return what JSON has no type for: instants in UTC to the millisecond, days, anything else as text."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else str(value)


def table(*columns: str, right: Sequence[str] = (), title: str | None = None) -> "Table":
    """Return an empty table without boxes; columns named in ``right`` are numbers."""
    from rich.table import Table

    made = Table(title=title, box=None, pad_edge=False, title_justify="left", header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal that something takes its time; elsewhere say nothing."""
    console = stderr()
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def seconds_since(begun: float) -> str:
    """Return how long ago a monotonic reading was, for people."""
    return f"{monotonic() - begun:.1f} s"


def local(instant: datetime) -> str:
    """Return an instant in UTC to the millisecond."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{instant.microsecond // 1000:03d}Z"
