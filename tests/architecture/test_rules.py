"""Every rule has its row in services/RULES.md, and every row a test with the rule's worked numbers."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.test_rules import RULES as PLAYED

ROOT = Path(__file__).parents[2]
LAST_RULE = 28
TESTS = ROOT / "tests"


class Row(NamedTuple):
    """A rule of the page."""

    number: int
    numbers: tuple[str, ...]
    file: str
    test: str
    played: str


def rows() -> list[Row]:
    """Read the table."""
    found = []
    for line in (ROOT / "services" / "RULES.md").read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        if re.fullmatch(r"R\d+", cells[0]):
            rule, _, numbers, test, played = cells
            file, _, name = test.partition("::")
            found.append(Row(int(rule[1:]), tuple(numbers.split(", ")), file, name, played.strip("` ")))
    return found


@cache
def sources(file: Path) -> dict[str, str]:
    """Return the source of every function and constant of a file, decorators included."""
    text = file.read_text()
    lines = text.splitlines()
    found = {}
    for node in ast.parse(text).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                first = node.lineno
            case _:
                continue
        found[name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def with_helpers(file: Path, test: str) -> str:
    """Return a test's source and that of what it uses of its file, with digits as a page writes them."""
    known, wanted, text = sources(file), [test], ""
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in known and name not in seen:
            text += known[name] + "\n"
            wanted += re.findall(r"\w+", known[name])
        seen.add(name)
    return re.sub(r"(?<=\d)_(?=\d)", "", text)


def test_every_rule_has_one_row_in_order() -> None:
    assert [row.number for row in rows()] == list(range(1, LAST_RULE + 1))


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"R{row.number}")
def test_a_rules_test_is_named_after_it_and_asserts_its_worked_numbers(row: Row) -> None:
    file = TESTS / row.file
    assert row.test in sources(file)
    assert re.match(rf"test_(r\d\d_)*r{row.number:02}_", row.test)
    text = with_helpers(file, row.test)
    for number in row.numbers:
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", text), f"{number} is not in {row.test}"


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"R{row.number}")
def test_every_rule_is_played_on_the_real_stack_by_its_account_or_its_own_test(row: Row) -> None:
    assert f"r{row.number:02}" in row.played or row.number == 4
    file, _, name = row.played.partition("::")
    assert file in PLAYED if not name else name in sources(TESTS / "e2e" / file)


def test_every_account_that_is_played_is_a_rules() -> None:
    named = {row.played for row in rows() if "::" not in row.played}
    beside = {name for name in PLAYED if name.rpartition("_")[0] in named}
    assert named | beside == set(PLAYED)


def test_a_rule_without_a_number_has_its_test_too() -> None:
    page = (ROOT / "services" / "RULES.md").read_text()
    named = re.findall(r"^\| [^|]+ \| [^|]+ \| `([^`|]+)::(\w+)` \|$", page, re.MULTILINE)
    assert len(named) == page.partition("Beyond the numbered rules")[2].count("\n| ") - 1
    for file, name in named:
        assert name in sources(TESTS / file)


def test_every_numbered_test_is_of_a_rule_there_is() -> None:
    for file in TESTS.rglob("test_*.py"):
        for name in re.findall(r"def (test_\w+)", file.read_text()):
            for number in re.findall(r"(?<=_)r(\d\d)(?=_)", name):
                assert 1 <= int(number) <= LAST_RULE, name
