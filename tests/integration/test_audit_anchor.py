"""The audit's anchors outside the database: what a whole new chain, a cut one and a changed file look like."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from services.cli.commands import answer
from services.cli.system import environment
from services.runtime.settings import Settings
from tests.conftest import run_apart
from tests.integration.support import owner, violations

ADD = """
INSERT INTO console.audit (at, actor, action, account_id, subject, reason, content)
SELECT date_trunc('milliseconds', clock_timestamp()), 'a', 'discard', 'account', n::text, 'why', '{}'
FROM generate_series(1, $1::integer) n
"""
# Whoever owns the database makes the whole chain anew without its second entry: by itself it is sound.
REWRITE = """
SET session_replication_role = replica;
CREATE TEMP TABLE kept AS SELECT * FROM console.audit WHERE seq <> 2 ORDER BY seq;
DELETE FROM console.audit; UPDATE console.audit_head SET seq = 0, hash = repeat('0', 64);
SET session_replication_role = origin;
INSERT INTO console.audit SELECT * FROM kept ORDER BY seq;
"""
CUT = """
SET session_replication_role = replica;
DELETE FROM console.audit WHERE seq = 3;
UPDATE console.audit_head SET seq = 2, hash = (SELECT hash FROM console.audit WHERE seq = 2);
"""


@pytest.fixture
def path(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a file anchored after two entries, and after one more."""
    for name, text in environment(settings).items():
        monkeypatch.setenv(name, text)
    found = tmp_path / "anchors.jsonl"
    for count in (2, 1):
        said(settings, ADD, count)
        assert answer(("audit", "anchor", str(found))) == 0
    assert answer(("audit", "anchor", str(found))) == 0, "nothing was done since"
    assert [json.loads(line)["seq"] for line in found.read_text().splitlines()] == [2, 3]
    assert answer(("audit", "verify", str(found))) == 0
    return found


def said(settings: Settings, statement: str, *values: object) -> None:
    async def say() -> None:
        async with owner(settings) as connection:
            await connection.execute(statement, *values)

    run_apart(say())


@pytest.mark.parametrize("statement", [REWRITE, CUT], ids=["rewritten", "cut"])
def test_a_chain_that_is_sound_by_itself_does_not_agree_with_its_anchors(
    settings: Settings, path: Path, statement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said(settings, statement)
    assert run_apart(violations(settings)) == {}, "no invariant can see it"
    assert answer(("audit", "verify", str(path))) == 1
    assert "gone" in capsys.readouterr().out
    assert answer(("audit", "anchor", str(path))) == 1, "nor is it anchored again"
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "forged",
    [
        lambda lines: lines[1:],
        lambda lines: [lines[0].replace('"seq":2', '"seq":1'), lines[1]],
        lambda lines: [json.dumps({**json.loads(line), "mac": "0" * 64}) for line in lines],
    ],
    ids=["a line left out", "a line changed", "signed by somebody else"],
)
def test_a_file_that_was_changed_is_not_believed(path: Path, forged: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(forged(path.read_text().splitlines())) + "\n")
    assert answer(("audit", "verify", str(path))) == 1


def test_without_its_key_or_its_lines_nothing_is_verified(settings: Settings, path: Path) -> None:
    path.with_name("empty.jsonl").write_text("")
    assert answer(("audit", "verify", str(path.with_name("empty.jsonl")))) == 2
    assert settings.secrets_dir is not None
    key = settings.secrets_dir / "audit_anchor"
    text = key.read_text()
    assert key.stat().st_mode & 0o777 == 0o600
    key.unlink()
    try:
        assert answer(("audit", "verify", str(path))) == 1
    finally:
        key.write_text(text)
