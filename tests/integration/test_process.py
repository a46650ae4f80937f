"""A worker as a process: the real faust command, how it starts, stops and ends."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from services.cli.system import environment, faust_command, free_port, make_topics, wait_ready
from services.runtime.clock import monotonic
from services.runtime.settings import Settings
from tests import builders
from tests.integration.kafka import send
from tests.integration.support import Raw, owner, violations
from tests.integration.test_consumer import booked, received, reports, until

STOP_SECONDS = 10.0
START_SECONDS = 60.0
STOPS = re.compile(r'"why": "(?P<why>[^"]+)"')


class Process:
    """One worker process and what it said."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    async def ready(self) -> None:
        """Wait until it answers ready."""
        await wait_ready({"worker": self.port})

    async def ended(self, seconds: float = START_SECONDS) -> int:
        """Wait for its end and return its exit code."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended(STOP_SECONDS)

    @property
    def said(self) -> str:
        return self.log.read_text()


@asynccontextmanager
async def started(settings: Settings, tmp_path: Path, name: str = "repayment-ingest") -> AsyncIterator[Process]:
    """Start a worker with the faust command line; killed at the end if it still runs."""
    port, log = free_port(), tmp_path / f"{name}-{free_port()}.log"
    inherited = {key: text for key, text in _environment().items() if not key.startswith("OTB_")}
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *faust_command(name),
            "-p",
            str(port),
            env={**inherited, **environment(settings)},
            cwd=tmp_path,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        yield Process(process, port, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _environment() -> Mapping[str, str]:
    return os.environ  # what a child process inherits


def reason(process: Process) -> str:
    """Return the one line that says why it ended."""
    lines = [line for line in process.said.splitlines() if STOPS.search(line)]
    assert "Traceback" not in process.said, process.said
    assert len(lines) == 1, process.said
    found = STOPS.search(lines[0])
    assert found is not None
    return found["why"]


async def test_a_wrong_password_ends_the_start_with_one_clear_line(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "otb_repayment_ingest").write_text("wrong")
    wrong = settings.model_copy(update={"secrets_dir": tmp_path / "secrets"})
    async with started(wrong, tmp_path) as process:
        assert await process.ended() != 0
    assert "otb_repayment_ingest" in reason(process)
    assert "otb migrate" in reason(process)


async def test_a_missing_secret_ends_the_start_with_one_clear_line(settings: Settings, tmp_path: Path) -> None:
    async with started(settings.model_copy(update={"secrets_dir": tmp_path}), tmp_path) as process:
        assert await process.ended() != 0
    assert "no secret for role otb_repayment_ingest" in reason(process)


async def test_a_bad_policy_file_ends_the_start_with_one_clear_line(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text('product = "broken"\n[calendar]\nname = "cn-banking"\n')
    async with started(settings.model_copy(update={"policy_dir": tmp_path}), tmp_path, "settlement") as process:
        assert await process.ended() != 0
    assert "broken.toml" in reason(process)


async def test_a_channel_without_its_settings_ends_the_start_with_one_clear_line(
    settings: Settings, tmp_path: Path
) -> None:
    async with started(settings.model_copy(update={"notify_channels": "webhook"}), tmp_path, "notifier") as process:
        assert await process.ended() != 0
    assert "OTB_WEBHOOK_URL" in reason(process)


async def test_a_server_that_is_away_ends_the_start_with_one_clear_line(settings: Settings, tmp_path: Path) -> None:
    away = settings.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{free_port()}"})
    async with started(away, tmp_path) as process:
        assert await process.ended() != 0
    assert str(away.kafka_bootstrap_servers).rpartition(":")[2] in reason(process)


async def test_a_missing_topic_ends_the_start_with_one_clear_line(empty_kafka: Settings, tmp_path: Path) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=empty_kafka.kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics(["billing.repayment.v1"])
        async with started(empty_kafka, tmp_path) as process:
            assert await process.ended() != 0
        assert "billing.repayment.v1" in reason(process)
    finally:
        await admin.close()
        await until(lambda: make_topics(empty_kafka))


async def test_sigterm_in_the_middle_of_work_ends_with_zero_and_loses_nothing(
    empty_kafka: Settings, tmp_path: Path
) -> None:
    settings = empty_kafka.model_copy(update={"batch_max": 20})
    await send(settings, *reports(3_000))
    async with started(settings, tmp_path) as process:
        await process.ready()

        async def at_work() -> bool:
            return await booked(settings) > 100

        await until(at_work)
        began = monotonic()
        assert await process.stop() == 0, process.said
        assert monotonic() - began < STOP_SECONDS
    assert "Traceback" not in process.said, process.said
    taken = await booked(settings)
    async with started(empty_kafka, tmp_path) as process:
        await received(empty_kafka, 3_000)
        assert await process.stop() == 0
    assert await booked(empty_kafka) == 3_000
    assert taken < 3_000, "it was stopped in the middle"
    assert await violations(empty_kafka) == {}


async def test_too_many_dead_letters_stop_the_worker_before_they_are_taken(
    empty_kafka: Settings, tmp_path: Path
) -> None:
    await send(empty_kafka, *(Raw("billing.repayment.v1", b"{", key=b"k") for _ in range(30)))
    limited = empty_kafka.model_copy(update={"dead_letters_in_a_row_max": 10, "batch_max": 3})
    for _ in range(2):
        async with started(limited, tmp_path) as process:
            assert await process.ended() != 0
        assert "dead letters in a row" in process.said
        async with owner(limited) as connection:
            assert await connection.fetchval("SELECT count(*) FROM repayment_ingest.set_aside") < 10
    assert await violations(empty_kafka) == {}


async def test_a_loop_that_stands_still_ends_the_process(empty_kafka: Settings, tmp_path: Path) -> None:
    impatient = empty_kafka.model_copy(update={"stuck_seconds": 5})
    async with started(impatient, tmp_path) as process, owner(impatient) as connection:
        await process.ready()
        async with connection.transaction():
            await connection.execute("LOCK TABLE repayment_ingest.inbox IN ACCESS EXCLUSIVE MODE")
            await send(impatient, builders.repayment_reported())
            assert await process.ended(30) != 0
    assert "no progress for 5 s" in process.said
