"""The live picture: windows in memory of what was restored, bounded, and blind to what cannot be read."""

from datetime import timedelta
from typing import NamedTuple

from pydantic import SecretStr

from schemas.ids import PROBE_ACCOUNT
from schemas.restoration import CreditRestored
from services.cli.windows import said
from services.lag_monitor import WINDOW_SECONDS
from services.lag_monitor.live import credentials, restored
from services.lag_monitor.windows import KEPT, Picture
from services.runtime.settings import Settings
from tests import builders
from tests.contract.records import record_of


class Told(NamedTuple):
    """A record as Faust hands it on."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def part(seconds: float, ms: int = 1_300) -> CreditRestored:
    """Return a part restored so long after another one."""
    at = builders.credit_restored().restored_at + timedelta(seconds=seconds)
    return builders.credit_restored(restored_at=at, repaid_at=at - timedelta(milliseconds=ms))


def test_parts_are_counted_in_the_ten_seconds_they_were_restored_in() -> None:
    picture = Picture()
    picture.add([part(0, 1_000), part(1, 3_000), part(WINDOW_SECONDS, 500)])
    first, second = picture.described()
    cause = builders.credit_restored().cause
    assert (first["parts"], first["mean_ms"], first["longest_ms"]) == (2, 2_000, 3_000)
    assert first["by_cause_ms"] == {cause: 4_000}
    assert (second["parts"], second["from"]) == (1, first["until"])


def test_the_probe_is_in_no_picture() -> None:
    picture = Picture()
    picture.add([builders.credit_restored(account_id=PROBE_ACCOUNT), part(0)])
    assert [window["parts"] for window in picture.described()] == [1]


def test_a_window_is_said_in_a_line() -> None:
    window = {"from": "2026-03-02T10:15:20Z", "parts": 2, "mean_ms": 240, "longest_ms": 1_300}
    assert said(window) == "window of 10 s from 10:15:20: 2 parts restored, mean 240 ms, longest 1.3 s"


def test_old_windows_are_let_go() -> None:
    picture = Picture()
    picture.add([part(n * WINDOW_SECONDS) for n in range(KEPT + 3)])
    shown = picture.described()
    assert len(shown) == KEPT
    assert shown[0]["from"] == shown[-1]["from"] - timedelta(seconds=(KEPT - 1) * WINDOW_SECONDS)


def test_what_is_no_restored_part_or_cannot_be_read_is_passed_over() -> None:
    told = record_of(builders.credit_restored())
    record = Told(told.key, told.value, tuple((name, text or b"") for name, text in told.headers))
    assert restored(record) == builders.credit_restored()
    assert restored(record._replace(value=b"{")) is None
    other = record_of(builders.hold_placed())
    assert restored(Told(other.key, other.value, tuple((name, text or b"") for name, text in other.headers))) is None


def test_kafka_that_asks_for_nobody_is_told_of_nobody() -> None:
    assert credentials(Settings(postgres_dsn=SecretStr("postgresql://nobody"))) is None
