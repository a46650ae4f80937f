"""Billing's list against ours: three lists, and a line that is no repayment is named (I23)."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.ids import AccountId, repayment_id
from services.cli.reconcile import CASES_MAX, Difference, Sent, compared, read
from services.cli.terminal import Problem
from services.console.model import SourceDiffers

ONE: dict[str, Any] = {
    "source": "core",
    "external_ref": "r1",
    "account_id": "a",
    "amount_minor": 500,
    "currency": "CNY",
}


def sent(**changes: Any) -> Sent:
    return Sent.model_validate({**ONE, **changes})


def test_the_same_lists_differ_in_nothing() -> None:
    assert compared([sent(), sent(external_ref="r2")], [{**ONE, "external_ref": "r2"}, ONE]) == []


def test_each_of_the_three_lists_is_told() -> None:
    found = compared(
        [sent(external_ref="r2"), sent(external_ref="r3", amount_minor=501, currency="USD")],
        [{**ONE, "external_ref": "r3"}, ONE],
    )
    assert found == [
        Difference("only_ours", "core", "r1", "a", ""),
        Difference("only_theirs", "core", "r2", "a", ""),
        Difference("differs", "core", "r3", "a", "amount_minor+currency"),
    ]


def test_a_difference_is_the_case_of_the_account_that_holds_it() -> None:
    (other,) = compared([sent(account_id="b")], [ONE])
    assert other.case == SourceDiffers(AccountId("a"), repayment_id("core", "r1"), "account_id")
    (theirs,) = compared([sent()], [])
    assert theirs.case == SourceDiffers(AccountId("a"), repayment_id("core", "r1"), "only_theirs")
    assert CASES_MAX == 100


def test_a_file_of_lines_is_read_and_more_than_we_compare_is_let_be(tmp_path: Path) -> None:
    path = tmp_path / "sent.jsonl"
    path.write_text(json.dumps({**ONE, "rail": "wallet"}) + "\n\n")
    assert read(path) == [sent()]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1: line is wrong"),
        (json.dumps({**ONE, "amount_minor": 5.5}), "line 1: amount_minor is wrong"),
        (json.dumps({**ONE, "external_ref": "two words"}), "line 1: external_ref is wrong"),
        ("", "names no repayment"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "sent.jsonl"
    path.write_text(line)
    with pytest.raises(Problem, match=told):
        read(path)
