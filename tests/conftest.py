"""One embedded stack for the whole session, and a fresh migrated database for every test that asks for one.

Properties: 50 examples here, 500 the same ones each time on a build machine, HYPOTHESIS_PROFILE=deep for a hunt.
"""

import asyncio
import os
import secrets
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import KafkaError
from hypothesis import Phase
from hypothesis import settings as profile
from pydantic import SecretStr

from services.cli.grants import bring_up_to_date
from services.cli.system import System, all_topics, make_topics, open_system
from services.runtime.settings import Settings

T = TypeVar("T")
REPOSITORY: Final = Path(__file__).parents[1]
TEMPLATE: Final = "otb_template"
PARTITIONS: Final = 3
LEADER_ATTEMPTS: Final = 100
BUILD_MACHINE: Final = ("debian", "compilers", "dataset")
ASKED_FOR: Final = ("release", "seeds")
_NUMBERS = count(1)

profile.register_profile("dev", max_examples=50, deadline=None)
profile.register_profile("ci", max_examples=500, deadline=None, derandomize=True)
profile.register_profile(
    "deep", max_examples=20_000, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
)
profile.load_profile(os.getenv("HYPOTHESIS_PROFILE") or ("ci" if os.getenv("CI") or os.getenv("OTB_CI") else "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run with faults be played again."""
    parser.addoption("--seed", type=int, default=None, help="seed of the faults; a new one each run by default")
    parser.addoption(
        "--repayments", type=int, default=5_000, help="repayments of the crash test; 12000 before a release"
    )
    parser.addoption("--kills", type=int, default=18, help="workers killed in the crash test; 40 before a release")
    parser.addoption("--release", action="store_true", help="run what is shown before a release alone")
    parser.addoption("--seeds", action="store_true", help="play 10,000 seeds of the simulation, too")
    parser.addoption(
        "--panels", type=Path, default=None, help="where to write what each dashboard's panels were answered"
    )
    parser.addoption("--from-commit", default="HEAD~1", help="the build that the upgrade test upgrades")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only a build machine has the parts for; there, a missing part is a failure."""
    names = (*_left_out(), *(name for name in ASKED_FOR if not config.getoption(f"--{name}")))
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in names)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _left_out() -> tuple[str, ...]:
    """Name the markers not selected."""
    engine = () if os.getenv("OTB_ENGINE") == "1" else ("engine",)
    return engine if os.getenv("OTB_CI") == "1" else (*engine, *BUILD_MACHINE)


def pytest_report_header() -> list[str]:
    """Say in a line each what is left out."""
    left_out = _left_out()
    chosen = [name for name in BUILD_MACHINE if name not in left_out]
    told = [f"tests marked {', '.join(chosen)}: selected"] if chosen else []
    if "dataset" in left_out:
        told.append("tests marked dataset: left out (where the file is had: deploy/policy/models/DATA.md)")
    others = [name for name in left_out if name != "dataset"]
    return (
        [*told, f"tests marked {', '.join(others)}: left out (OTB_CI=1 selects them, OTB_ENGINE=1 engine)"]
        if others
        else told
    )


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """Return the seed of this run."""
    asked: int | None = pytestconfig.getoption("--seed")
    return secrets.randbelow(1_000_000) if asked is None else asked


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own, whatever loop the caller has."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def dsn_of(settings: Settings, database: str | None = None) -> str:
    """Return the owner's address of a database, by default the one of ``settings``."""
    assert settings.postgres_dsn is not None
    dsn = settings.postgres_dsn.get_secret_value()
    return dsn if database is None else urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


def cache_dir() -> Path:
    """Return the folder of downloaded jars, shared by every stack of the tests."""
    return Settings().cache_dir or REPOSITORY / ".otb" / "cache"


async def execute(dsn: str, *statements: str) -> None:
    """Run statements as the owner, each in its own transaction."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def empty_topics(settings: Settings) -> None:
    """Remove every record: a fresh database begins reading where each partition begins."""
    everything = RecordsToDelete(before_offset=-1)
    wanted = {TopicPartition(name, n): everything for name in all_topics() for n in range(settings.partitions)}
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        for attempt in range(LEADER_ATTEMPTS):
            try:
                await admin.delete_records(wanted)
                return
            except KafkaError as error:  # a partition just made has no leader yet
                if not error.retriable or attempt == LEADER_ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.2)
    finally:
        await admin.close()


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Run the embedded stack with topics made and a migrated template; stopped however the session ends."""
    asked = Settings(state_dir=tmp_path_factory.mktemp("stack") / "state", cache_dir=cache_dir(), partitions=PARTITIONS)
    opened = open_system(asked, tied=True)
    try:
        run_apart(_prepared(opened.settings))
        yield opened
    finally:
        opened.stack.down()


async def _prepared(settings: Settings) -> None:
    await make_topics(settings)
    await execute(dsn_of(settings), f"CREATE DATABASE {TEMPLATE}")
    assert settings.secrets_dir is not None
    await bring_up_to_date(dsn_of(settings, TEMPLATE), settings.secrets_dir)


class Databases:
    """Copies of the template; the next one is made while a test runs."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.pool = ThreadPoolExecutor(1)
        self.next = self.pool.submit(self._make)

    def take(self) -> str:
        """Return the name of a fresh database."""
        made, self.next = self.next, self.pool.submit(self._make)
        return made.result()

    def drop(self, name: str) -> None:
        """Remove a database some time later."""
        self.pool.submit(asyncio.run, execute(self.owner, f"DROP DATABASE {name} WITH (FORCE)"))

    def _make(self) -> str:
        name = f"test_{next(_NUMBERS)}"
        asyncio.run(execute(self.owner, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}"))
        return name


@pytest.fixture(scope="session")
def databases(system: System) -> Iterator[Databases]:
    """Make databases ahead of the tests that ask for them."""
    made = Databases(dsn_of(system.settings))
    yield made
    made.pool.shutdown(wait=True)


@pytest.fixture
def settings(system: System, databases: Databases) -> Iterator[Settings]:
    """Give a test its own migrated database; roles and secrets are shared."""
    name = databases.take()
    yield system.settings.model_copy(update={"postgres_dsn": SecretStr(dsn_of(system.settings, name))})
    databases.drop(name)


@pytest.fixture
def empty_kafka(settings: Settings) -> Settings:
    """Give a test its own database and topics without records."""
    run_apart(empty_topics(settings))
    return settings
