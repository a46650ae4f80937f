"""What became of a file's mutants, and which survivors have a reason."""

import ast
import difflib
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Final

from services.runtime.clock import utc_now

KILLED_MIN: Final = 0.95
SURVIVORS: Final = Path(__file__).with_name("survivors.toml")
KEPT: Final = Path(__file__).with_name("killed.toml")
HEADING: Final = "# Mutants killed by file, and when: written by python -m tests.mutation --record."
KILLED: Final = (1, 3, 36, 24, 152, 255, -24, -11, -9)
"""What mutmut notes of a mutant a test failed on, or that never ended."""
SURVIVED: Final = (0, 5, 33)
"""What it notes of one all tests passed on, or that no test reaches."""


@dataclass(frozen=True)
class Reason:
    """Why a change of ``was`` in ``file`` may survive; both are patterns."""

    file: str
    was: str
    becomes: str
    why: str


@dataclass(frozen=True)
class Survivor:
    """One changed line no test fails on."""

    file: str
    function: str
    was: str
    becomes: str

    def explained(self, reasons: Sequence[Reason]) -> bool:
        """Tell whether a reason is known."""
        return any(
            re.search(reason.file, self.file)
            and re.search(reason.was, self.was)
            and re.search(reason.becomes, self.becomes)
            for reason in reasons
        )

    def entry(self) -> str:
        """Return what to add to survivors.toml."""
        lines = ("[[survivor]]", f"file = '{self.file}'  # {self.function}", f"was = '''{re.escape(self.was)}'''")
        return "\n".join((*lines, f"becomes = '''{re.escape(self.becomes)}'''", "why = ''"))


@dataclass(frozen=True)
class Outcome:
    """A file's mutants."""

    file: str
    killed: int
    survivors: tuple[Survivor, ...]
    unreached: int

    @property
    def tried(self) -> int:
        """Return how many were tried."""
        return self.killed + len(self.survivors)

    def line(self) -> str:
        """Return the outcome in a line."""
        share = self.killed / self.tried if self.tried else 0.0
        return f"{self.file:<40} {self.killed} of {self.tried} killed ({share:.1%}), {self.unreached} not reached"


@cache
def known() -> tuple[Reason, ...]:
    """Return the reasons of survivors.toml."""
    return tuple(Reason(**entry) for entry in tomllib.loads(SURVIVORS.read_text()).get("survivor", ()))


def outcome_of(work: Path, file: str) -> Outcome:
    """Read what mutmut noted of a file's mutants in ``work``."""
    mutated, meta = work / "mutants" / file, _meta(work, file)
    noted: dict[str, int | None] = json.loads(meta.read_text())["exit_code_by_key"] if meta.exists() else {}
    functions = _functions(mutated.read_text()) if noted else {}
    survivors = tuple(_survivor(file, key, functions) for key, code in noted.items() if code in SURVIVED)
    killed = sum(code in KILLED for code in noted.values())
    return Outcome(file, killed, survivors, len(noted) - killed - len(survivors) if noted else 1)


def _meta(work: Path, file: str) -> Path:
    return work / "mutants" / f"{file}.meta"


def undecorated(text: str) -> str:
    """Return a module whose classes are decorated later: mutmut leaves the methods of a decorated one alone."""
    lines = text.splitlines()
    for node in reversed(ast.parse(text).body):
        if isinstance(node, ast.ClassDef) and node.decorator_list:
            made, decorators = node.name, node.decorator_list
            for decorator in reversed(decorators):
                made = f"{ast.unparse(decorator)}({made})"
            lines.insert(node.end_lineno or 0, f"{node.name} = {made}")
            del lines[decorators[0].lineno - 1 : decorators[-1].end_lineno]
    return "\n".join((*lines, ""))


def try_again(work: Path, files: Sequence[str]) -> None:
    """Let mutmut try once more what survived in ``files``."""
    for meta in (_meta(work, file) for file in files):
        if meta.exists():
            noted = json.loads(meta.read_text())
            codes = noted["exit_code_by_key"]
            noted["exit_code_by_key"] = {key: None if code in SURVIVED else code for key, code in codes.items()}
            meta.write_text(json.dumps(noted))


def recorded(outcome: Outcome) -> None:
    """Write the figures of one file."""
    figures = {file: f"{killed} of {tried}, {day}" for file, (killed, tried, day) in figures_kept().items()}
    figures[outcome.file] = f"{outcome.killed} of {outcome.tried}, {utc_now().date()}"
    lines = [f'"{file}" = "{figure}"' for file, figure in sorted(figures.items())]
    KEPT.write_text("\n".join((HEADING, *lines, "")))


def figures_kept() -> dict[str, tuple[int, int, date]]:
    """Return how many of a file's mutants were killed, of how many, and when; of the files that were tried."""
    found = {}
    for file, figure in tomllib.loads(KEPT.read_text()).items():
        killed, _, tried, day = figure.replace(",", "").split()
        found[file] = (int(killed), int(tried), date.fromisoformat(day))
    return found


def _functions(text: str) -> dict[str, list[str]]:
    """Return the lines of every function of a file with its mutants."""
    lines = text.splitlines()
    return {
        node.name: lines[node.lineno - 1 : node.end_lineno]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    }


def _survivor(file: str, key: str, functions: dict[str, list[str]]) -> Survivor:
    """Return what a mutant changed; mutmut names it after its function and a number."""
    name = key.rpartition(".")[2]
    function = name.partition("__mutmut_")[0]
    original = [line.replace("__mutmut_orig", "") for line in functions[f"{function}__mutmut_orig"]]
    changed = [line.replace(f"__mutmut_{name.rpartition('_')[2]}", "") for line in functions[name]]
    diff = list(difflib.ndiff(original, changed))
    was = " ".join(line[2:].strip() for line in diff if line.startswith("- "))
    becomes = " ".join(line[2:].strip() for line in diff if line.startswith("+ "))
    return Survivor(file, re.sub(r"^x[_\u01c1]", "", function), was, becomes)
