"""Numbers outside functions, which mutmut leaves alone: each is made another one, and a test must fail."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from tests.mutation.__main__ import FILES, SERVICES, WORK, copied
from tests.mutation.outcome import Survivor, known

FIRST = "test_numbers_of_rules"


def main(patterns: Sequence[str]) -> int:
    """Return 0 when every number's change fails a test, or its survival has a reason."""
    files = [file for file in FILES if any(fnmatch(file, pattern) for pattern in patterns or ["*"])]
    work = WORK / "numbers"
    copied(work)
    tried, survivors = 0, []
    for file in files:
        before = tried
        for survivor in _each(work, file):
            tried += 1
            if survivor is not None and not survivor.explained(known()):
                survivors.append(survivor)
                sys.stdout.write(f"survived, no reason in survivors.toml:\n{survivor.entry()}\n")
        sys.stdout.write(f"{file:<40} {tried - before} numbers outside functions\n")
        sys.stdout.flush()
    sys.stdout.write(f"{tried} numbers outside functions, {len(survivors)} changed without a test or a reason\n")
    return 1 if survivors else 0


def numbers(text: str) -> list[ast.Constant]:
    """Return the numbers of a module that are in no function."""
    found: list[ast.Constant] = []
    places: list[ast.AST] = [ast.parse(text)]
    while places:
        node = places.pop(0)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            found.append(node)
        if not isinstance(node, ast.FunctionDef):
            places.extend(ast.iter_child_nodes(node))
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def changed(text: str, node: ast.Constant) -> str:
    """Return a module with one number one more, a fraction half as much again."""
    assert isinstance(node.value, int | float)
    other = node.value + 1 if isinstance(node.value, int) else 1.5 * node.value + 0.5 * (node.value == 0)
    lines = text.splitlines(keepends=True)
    line = lines[node.lineno - 1].encode()
    lines[node.lineno - 1] = (line[: node.col_offset] + repr(other).encode() + line[node.end_col_offset :]).decode()
    return "".join(lines)


def _each(work: Path, file: str) -> Iterator[Survivor | None]:
    """Yield for each number of a file None when a test fails on its change, or what survived."""
    place = work / file
    text = place.read_text()
    for node in numbers(text):
        other = changed(text, node)
        place.write_text(other)
        survived = _passes(work, FILES[file])
        was, becomes = (lines.splitlines()[node.lineno - 1].strip() for lines in (text, other))
        yield Survivor(file, f"line {node.lineno}", was, becomes) if survived else None
    place.write_text(text)


def _passes(work: Path, service: str) -> bool:
    """Tell whether every test of a service passes; the files one by one, for most numbers fail in the first."""
    tests = (FIRST, *SERVICES[service][1])
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "tests.mutation.plugin"]
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutate", "PYTHONPATH": str(work)}
    return all(
        subprocess.run(
            [*command, f"tests/unit/{name}.py"], cwd=work, env=environment, capture_output=True, check=False
        ).returncode
        == 0
        for name in tests
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
