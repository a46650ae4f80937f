"""Pages that say which test or command shows a line of what was promised, read and held against the files."""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"


class Row(NamedTuple):
    """A demand of the page."""

    line: int
    demand: str
    shown_by: str

    @property
    def tests(self) -> list[tuple[str, str]]:
        """Return the files and names of the tests it cites."""
        return re.findall(r"`([\w/]+\.py)::(\w+)`", self.shown_by)

    @property
    def commands(self) -> list[str]:
        """Return the commands it cites."""
        return re.findall(r"`((?:make|python -m) [\w.-]+)`", self.shown_by)

    @property
    def absent(self) -> list[str]:
        """Return what it cites and is not there."""
        tests = [f"{file}::{name}" for file, name in self.tests if name not in named(file)]
        return [*tests, *(command for command in self.commands if not exists(command))]


def rows(page: str) -> list[Row]:
    """Read the table of a page below services/."""
    found = []
    for line in (ROOT / "services" / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if cells[0].isdigit():
            number, demand, shown_by = cells
            found.append(Row(int(number), demand, shown_by))
    return found


@cache
def named(file: str) -> frozenset[str]:
    """Return the names of a file's tests."""
    return frozenset(re.findall(r"^(?:async )?def (test_\w+)", (TESTS / file).read_text(), re.MULTILINE))


def exists(command: str) -> bool:
    """Tell whether there is such a target or module."""
    program, _, rest = command.partition(" ")
    if program == "make":
        return re.search(rf"^{rest}:", (ROOT / "Makefile").read_text(), re.MULTILINE) is not None
    return (ROOT / f"{rest.removeprefix('-m ').replace('.', '/')}.py").is_file()
