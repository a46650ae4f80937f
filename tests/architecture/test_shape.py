"""The structure the README and services/README.md promise, held against the files."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("repayment_ingest", "settlement", "risk_scoring", "limit_release", "notifier", "console")
CODE = sorted(path for top in ("schemas", "services", "deploy") for path in (ROOT / top).rglob("*.py"))
RUNTIME_LINES_MAX = 1_500
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 40
FUNCTION_LINES_MEDIAN = 8
FUNCTION_LINES_P95 = 28
README_LINES_MAX = 200
_NAMES = re.compile(r"Makefile$|.*[./]")
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def test_no_two_migrations_of_a_module_have_one_number() -> None:
    for folder in (ROOT / "services").glob("*/migrations"):
        numbers = [path.name.split("_")[0] for path in folder.glob("*.sql")]
        assert len(numbers) == len(set(numbers)), sorted(numbers)


def test_the_runtime_stays_small() -> None:
    lines = sum(len(_code_lines(path)) for path in (ROOT / "services" / "runtime").glob("*.py"))
    assert lines <= RUNTIME_LINES_MAX


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_and_no_function_grows_without_bound(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= FILE_LINES_MAX
    long = [name for name, lines in _functions(path) if lines > FUNCTION_LINES_MAX]
    assert not long


def test_most_functions_are_a_few_lines() -> None:
    lengths = sorted(lines for path in CODE for _, lines in _functions(path))
    assert median(lengths) <= FUNCTION_LINES_MEDIAN
    assert lengths[len(lengths) * 95 // 100] <= FUNCTION_LINES_P95


@pytest.mark.parametrize("service", SERVICES)
def test_deciding_is_not_asynchronous(service: str) -> None:
    tree = ast.parse((ROOT / "services" / service / "domain.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


@pytest.mark.parametrize("service", SERVICES)
def test_a_store_awaits_nothing_in_a_loop(service: str) -> None:
    tree = ast.parse((ROOT / "services" / service / "store.py").read_text())
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While | ast.AsyncFor)]
    awaited = [
        inner for loop in loops for part in loop.body for inner in ast.walk(part) if isinstance(inner, ast.Await)
    ]
    assert not awaited


@pytest.mark.parametrize("service", SERVICES)
def test_sql_lives_in_upper_case_constants_of_the_store(service: str) -> None:
    for name in ("domain", "worker"):
        text = (ROOT / "services" / service / f"{name}.py").read_text()
        assert not re.search(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM)\b", text)


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES_MAX


def test_the_tree_in_the_readme_is_the_tree_on_the_disk() -> None:
    block = re.search(r"```tree\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    told = {name for line in block.group(1).splitlines() for name in takewhile(_NAMES.match, line.split())}
    assert told == set(_tree())


def _tree() -> Iterator[str]:
    """Name the top of the checkout and the folders one level below, without what is made by running it."""
    made = {".git", ".venv", ".otb", "build"}
    for path in ROOT.iterdir():
        if path.name in made or (path.name.startswith(".") and path.name != ".ci") or path.name.endswith(".egg-info"):
            continue
        if path.is_file():
            yield path.name
            continue
        yield f"{path.name}/"
        for below in path.iterdir():
            if below.is_dir() and below.name != "__pycache__" and any(below.rglob("*.*")):
                yield f"{path.name}/{below.name}/"


def _code_lines(path: Path) -> set[int]:
    """Return the lines that hold code: no blank line, no comment, no docstring."""
    text = path.read_text()
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            docstrings.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines - docstrings


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1
