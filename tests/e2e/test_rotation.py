"""Every secret is changed while money moves: the old ones are refused, no message fails, and nothing is lost."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
import pytest
from aiohttp import web
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from services.billing_simulator.load import Load, accounts_plan, repayments_plan
from services.billing_simulator.send import Sent, play
from services.cli.commands import answer
from services.cli.declared import principals, read_access
from services.cli.system import System, environment, free_port, open_system, provision, start_workers, wait_ready
from services.cli.workers import CONTROLS, EVERYONE, READERS
from services.push_sink.receiver import Inbox
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from tests.conftest import cache_dir, dsn_of
from tests.e2e.books import differences, restored_twice, settled
from tests.integration.secured import Secured, secured_broker
from tests.integration.support import owner

LOAD: Final = Load(seed=5, run="rotation", count=1000, accounts=60, rate=8.0, duplicate=0.05, swaps=0.05)
ROLES: Final = [f"otb_{name}" for name in (*(worker.package for worker in EVERYONE), *READERS, *CONTROLS)]
USERS: Final = [f"kafka_{who['name'].replace('-', '_')}" for who in principals(read_access())]
SECONDS: Final = 120.0
TOLD: Final = """
SELECT count(*) AS messages, count(*) FILTER (WHERE state <> 'delivered') AS failed, max(attempts) AS attempts
FROM notifier.delivery
"""


def webhook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


@dataclass
class Platform:
    """The platform that pushes: it knows one secret at a time, and counts what it refused."""

    inbox: Inbox
    url: str = ""
    statuses: list[int] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): text for name, text in request.headers.items()}
        self.statuses.append(204 if self.inbox.take(await request.read(), headers) else 401)
        return web.Response(status=self.statuses[-1])


@asynccontextmanager
async def listening(key: str) -> AsyncIterator[Platform]:
    platform, port = Platform(Inbox(key)), free_port()
    app = web.Application()
    app.router.add_post("/", platform.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    platform.url = f"http://127.0.0.1:{port}/"
    try:
        yield platform
    finally:
        await runner.cleanup()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Secured]:
    """Run a broker that knows its users."""
    with secured_broker(tmp_path) as running:
        yield running


@pytest.fixture
def alone(broker: Secured, tmp_path: Path) -> Iterator[System]:
    """Run a database of its own beside the broker, as its administrator."""
    update = {"state_dir": tmp_path / "state", "cache_dir": cache_dir(), "partitions": 3}
    system = open_system(broker.settings("admin").model_copy(update=update), tied=True)
    try:
        yield system
    finally:
        system.stack.down()


class Deployment:
    """The workers, each as its own user, and what an operator does."""

    def __init__(self, system: System, platform: Platform, key: Path) -> None:
        self.system, self.platform, self.key = system, platform, key
        assert system.settings.secrets_dir is not None
        self.folder = system.settings.secrets_dir

    def start(self, worker: AnyWorker) -> None:
        mine = {"kafka_username": worker.name, "kafka_password_file": self.folder / f"kafka_{worker.package}"}
        hook = {"notify_channels": "webhook", "webhook_url": self.platform.url, "webhook_secret_file": self.key}
        settings = self.system.settings.model_copy(update={**mine, **(hook if worker.name == "notifier" else {})})
        asyncio.run(wait_ready(start_workers(System(settings, self.system.stack), [worker]), SECONDS))

    async def restart(self) -> None:
        """Let one worker after another read its files again."""
        for worker in EVERYONE:
            await asyncio.to_thread(self.system.stack.stop, [worker.name])
            await asyncio.to_thread(self.start, worker)

    async def changed(self, names: Sequence[str], command: str) -> dict[str, str]:
        """Write new passwords, let a job tell the server, restart; return the old ones."""
        old = {name: (self.folder / name).read_text().strip() for name in names}
        for name in names:
            (self.folder / name).write_text(secrets.token_hex(12))
        assert await asyncio.to_thread(answer, [command]) == 0
        await self.restart()
        return old

    async def webhook_changed(self) -> None:
        """Sign with both; the receiver changes to the new one; sign with the new one alone."""
        old, new = self.key.read_text(), webhook_secret()
        self.key.write_text(f"{new}\n{old}")
        await asyncio.sleep(3)
        self.platform.inbox = Inbox(new)
        await asyncio.sleep(3)
        self.key.write_text(new)


async def while_money_moves(deployment: Deployment) -> tuple[Sent, dict[str, str], dict[str, str]]:
    """Change the secrets of database, Kafka and webhooks while billing sends."""
    settings = deployment.system.settings
    await play(settings, accounts_plan(LOAD))
    sending = asyncio.create_task(play(settings, repayments_plan(LOAD)))
    try:
        await deployment.webhook_changed()
        roles = await deployment.changed(ROLES, "migrate")
        users = await deployment.changed(USERS, "access")
        assert not sending.done(), "it was over before the secrets were changed"
        return await sending, roles, users
    finally:
        sending.cancel()


async def refused_by_postgres(settings: Settings, role: str, password: str) -> bool:
    try:
        connection = await asyncpg.connect(dsn_of(settings), user=role, password=password)
    except asyncpg.InvalidPasswordError:
        return True
    await connection.close()
    return False


def refused_by_kafka(settings: Settings, name: str, password: str) -> bool:
    options = {**settings.librdkafka(), "sasl.username": name, "sasl.password": password, "log_level": "0"}
    try:
        AdminClient(options).list_topics(timeout=5)
    except KafkaException:
        return True
    return False


async def administrators_changed(system: System, broker: Secured, folder: Path) -> None:
    """Give the broker's administrator another password; it takes the new one and not the old."""
    old, new = (broker.secrets_dir / "kafka_admin").read_text(), folder / "next"
    new.write_text(secrets.token_hex(12))
    assert await asyncio.to_thread(answer, ["access", "--new-admin", str(new)]) == 0
    assert refused_by_kafka(system.settings, "admin", old)
    assert not refused_by_kafka(system.settings, "admin", new.read_text())


@pytest.mark.release
@pytest.mark.timeout(900)
async def test_every_secret_is_changed_while_money_moves_and_no_delivery_fails(
    alone: System, broker: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, key = alone.settings, tmp_path / "webhook"
    key.write_text(webhook_secret())
    for name, text in environment(settings).items():
        monkeypatch.setenv(name, text)
    await provision(settings)
    assert await asyncio.to_thread(answer, ["access"]) == 0
    async with listening(key.read_text()) as platform:
        deployment = Deployment(alone, platform, key)
        for worker in EVERYONE:
            await asyncio.to_thread(deployment.start, worker)
        sent, roles, users = await while_money_moves(deployment)
        await settled(settings, SECONDS)
        assert platform.inbox.refused == 0
        assert set(platform.statuses) == {204}
    assert [role for role, old in roles.items() if not await refused_by_postgres(settings, role, old)] == []
    names = {file: file.removeprefix("kafka_").replace("_", "-") for file in users}
    assert [file for file, old in users.items() if not refused_by_kafka(settings, names[file], old)] == []
    async with owner(settings) as connection:
        told = dict(await connection.fetchrow(TOLD))
    assert told["messages"] > 0
    assert told["failed"] == 0
    assert await differences(settings, LOAD, sent) == {}
    assert await restored_twice(settings) == []
    await administrators_changed(alone, broker, tmp_path)
    print(f"{len(roles)} roles, {len(users)} users, 1 webhook secret changed: {told}, 401 from the platform: 0")
