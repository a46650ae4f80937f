"""otb policy: every value with its source, what differs, and whether a folder would start; without servers."""

import json
import shutil
from pathlib import Path

import pytest

from services.cli.commands import answer
from services.cli.policy import differences
from services.profiles import FOLDER

FOUND, NOT_FOUND, OK = 1, 4, 0


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return a folder with every profile, to be changed."""
    for path in FOLDER.glob("*.toml"):
        shutil.copy(path, tmp_path)
    return tmp_path


def changed(folder: Path, was: str, becomes: str) -> None:
    path = folder / "discover_it.toml"
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, becomes))


def test_show_names_every_value_and_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(["policy", "show", "discover_it", "--json"]) == OK
    told = json.loads(capsys.readouterr().out)
    assert told["policy_version"].startswith("discover_it@")
    assert told["calendar"].startswith("us-fed@holidays-")
    assert told["values"]["waterfall.principal"] == "highest_apr"
    assert told["sources"]["waterfall.principal"] == "public"
    assert answer(["policy", "show", "discover_it"]) == OK
    assert "highest_apr" in capsys.readouterr().out


def test_diff_names_the_key_that_was_changed_and_only_that(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = ["policy", "diff", "discover_it", "--to", str(copied), "--json"]
    assert answer(same) == OK
    assert json.loads(capsys.readouterr().out)["differences"] == {}
    changed(copied, "turnover_max_ratio = 2", "turnover_max_ratio = 3")
    assert answer(same) == FOUND
    assert json.loads(capsys.readouterr().out)["differences"] == {"turnover_max_ratio": [2, 3]}


def test_two_products_differ_where_their_files_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(["policy", "diff", "default", "discover_it"]) == FOUND
    said = capsys.readouterr().out
    assert "limit_basis" in said
    assert "turnover_max_ratio" not in said


def test_what_one_profile_lacks_is_a_difference() -> None:
    assert differences({"a": 1, "b": 2}, {"a": 1, "c": 3}) == {"b": (2, None), "c": (None, 3)}


def test_check_names_the_file_and_the_key_that_would_not_start(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(["policy", "check", "--folder", str(copied)]) == OK
    assert "discover_it@" in capsys.readouterr().out
    changed(copied, 'limit_basis = "TOTAL"', 'limit_basis = "ALL"')
    assert answer(["policy", "check", "--folder", str(copied), "--json"]) == FOUND
    told = json.loads(capsys.readouterr().out)
    assert "discover_it.toml" in told["wrong"]
    assert "limit_basis" in told["wrong"]


def test_a_product_without_a_profile_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(["policy", "show", "nobody"]) == NOT_FOUND
    assert "discover_it" in capsys.readouterr().err
