"""The audit's anchors outside the database: what a whole new chain, a cut one and a changed file look like."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.audit import AuditAnchored
from schemas.topics import AUDIT_ANCHOR
from services.cli.audit import differs
from services.cli.commands import answer
from services.cli.servers import connected
from services.cli.system import environment
from services.console.store import audit_moved
from services.console.worker import WORKER as CONSOLE
from services.runtime.batch import Batch
from services.runtime.clock import monotonic, utc_now
from services.runtime.fold import Arrived
from services.runtime.settings import Settings
from tests.conftest import run_apart
from tests.integration.support import Feed, owner, role, violations

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


async def anchored(settings: Settings) -> list[AuditAnchored]:
    """Let the console anchor what was done, and return what it tells."""
    async with role(settings, "console") as connection:
        feed = await Feed(CONSOLE, settings, connection).start()
        found = [Arrived(each, -1, utc_now()) for each in await audit_moved(connection)]
        told = (await feed.apply(Batch(taken=monotonic(), arrived=found))).outgoing if found else ()
    assert {each.topic for each in told} <= {AUDIT_ANCHOR.name}
    return [AuditAnchored.model_validate_json(each.payload) for each in told]


LATER = """
SET session_replication_role = replica;
UPDATE console.audit_anchor SET at = at - interval '1 minute';
SET session_replication_role = origin;
"""
RESTORED = """
SET session_replication_role = origin;
INSERT INTO console.audit (at, actor, action, account_id, subject, reason, content)
VALUES (clock_timestamp() + interval '1 second', 'a', 'replay', 'unknown', 'restored', 'why', '{}')
"""


async def wrong(settings: Settings, known: list[AuditAnchored]) -> list[str]:
    async with connected(settings) as connection:
        return await differs(connection, known)


@pytest.mark.parametrize("statement", [REWRITE, CUT], ids=["rewritten", "cut"])
async def test_a_chain_made_anew_is_not_what_its_topic_holds(settings: Settings, statement: str) -> None:
    async with owner(settings) as connection:
        assert await anchored(settings) == [], "nobody did anything"
        await connection.execute(ADD, 2)
        (first,) = await anchored(settings)
        await connection.execute(ADD, 1)
        assert await anchored(settings) == [], "at most once a minute"
        await connection.execute(LATER)
        (second,) = await anchored(settings)
        assert [(each.seq, each.count) for each in (first, second)] == [(2, 2), (3, 3)]
        assert await wrong(settings, [first, second]) == []
        await connection.execute(statement)
        assert await violations(settings) == {}, "no view can see it"
        found = await wrong(settings, [first, second])
        assert found
        assert all("another" in each or "gone" in each or "ends at" in each for each in found)
        await connection.execute(RESTORED)
        assert await wrong(settings, [first, second]) == [], "the audit itself says that it is a backup's"


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
