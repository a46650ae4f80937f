"""The challenger in shadow needs what only training has, and says how it is had."""

import sys

import pytest

from services import risk_training
from services.cli.commands import answer


def test_the_challenger_without_its_libraries_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(risk_training, "challenger", raising=False)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    monkeypatch.delitem(sys.modules, "services.risk_training.challenger", raising=False)
    assert answer(["risk", "challenge"]) == 3
    assert "lightgbm is not installed: `make training`" in capsys.readouterr().err
