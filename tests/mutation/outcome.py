"""What became of a file's mutants, and which survivors have a reason."""

import ast
import difflib
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

KILLED_MIN: Final = 0.95
SURVIVORS: Final = Path(__file__).with_name("survivors.toml")
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
    mutated = work / "mutants" / file
    meta = mutated.with_name(f"{mutated.name}.meta")
    noted: dict[str, int | None] = json.loads(meta.read_text())["exit_code_by_key"] if meta.exists() else {}
    functions = _functions(mutated.read_text()) if noted else {}
    survivors = tuple(_survivor(file, key, functions) for key, code in noted.items() if code in SURVIVED)
    killed = sum(code in KILLED for code in noted.values())
    return Outcome(file, killed, survivors, len(noted) - killed - len(survivors) if noted else 1)


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
