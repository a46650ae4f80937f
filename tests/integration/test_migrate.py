"""Migrations: applied once, never silently changed, by one process at a time, each service in its own schema."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from services.cli.workers import EVERYONE
from services.migrate import migrate, texts_of
from services.runtime.errors import ConfigurationError
from services.runtime.settings import Settings
from tests.conftest import dsn_of, execute
from tests.integration.support import owner, role

PACKAGES = [worker.package for worker in EVERYONE]


async def again(settings: Settings, packages: list[str] = PACKAGES) -> list[str]:
    assert settings.secrets_dir is not None
    return await migrate(dsn_of(settings), packages, settings.secrets_dir)


async def test_migrating_twice_applies_nothing_more(settings: Settings) -> None:
    assert await again(settings) == []


async def test_a_changed_migration_is_refused_by_name(settings: Settings) -> None:
    changed = "UPDATE settlement.migration SET checksum = 'x' WHERE name LIKE '%001_debt.sql'"
    await execute(dsn_of(settings), changed)
    with pytest.raises(ConfigurationError, match=r"settlement/settlement\.001_debt\.sql"):
        await again(settings)


async def test_processes_that_migrate_at_once_apply_each_migration_once(settings: Settings) -> None:
    await execute(dsn_of(settings), *(f"DROP SCHEMA {package} CASCADE" for package in PACKAGES))
    applied = await asyncio.gather(*(again(settings) for _ in range(4)))
    done = [name for names in applied for name in names]
    assert sorted(done) == sorted(set(done))
    assert len(done) == sum(len(texts_of(package)) for package in PACKAGES)


async def test_a_migration_that_fails_leaves_nothing(settings: Settings) -> None:
    await execute(dsn_of(settings), "DROP SCHEMA notifier CASCADE", "CREATE SCHEMA notifier",
                  "CREATE VIEW notifier.notification AS SELECT 1 AS one")  # fmt: skip
    with pytest.raises(asyncpg.PostgresError):
        await again(settings, ["notifier"])
    async with owner(settings) as connection:
        assert await connection.fetchval("SELECT to_regclass('notifier.inbox')") is None


def test_secrets_are_readable_by_their_owner_only(settings: Settings) -> None:
    assert settings.secrets_dir is not None
    secrets = [Path(settings.secrets_dir, f"otb_{package}") for package in PACKAGES]
    assert [path.name for path in secrets if path.stat().st_mode & 0o077] == []
    assert len({path.read_text() for path in secrets}) == len(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
async def test_a_service_cannot_touch_the_schema_of_another(settings: Settings, package: str) -> None:
    async with role(settings, package) as connection:
        assert await connection.fetch("SELECT * FROM inbox") == []
        for other in PACKAGES:
            if other == package:
                continue
            for statement in (
                f"SELECT * FROM {other}.inbox",  # noqa: S608  # our own names
                f"INSERT INTO {other}.progress VALUES ('t', 0, 0, 0)",  # noqa: S608
                f"CREATE TABLE {other}.mine (n integer)",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)


@pytest.mark.parametrize("package", PACKAGES)
async def test_a_service_makes_no_tables_truncates_nothing_and_keeps_its_triggers(
    settings: Settings, package: str
) -> None:
    async with role(settings, package) as connection:
        for statement in (
            "CREATE TABLE mine (n integer)",
            "CREATE TABLE public.mine (n integer)",
            "TRUNCATE inbox",
            "ALTER TABLE inbox DISABLE TRIGGER ALL",
            "DROP TABLE inbox",
            "SET session_replication_role = replica",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_roles_have_a_password_and_no_privilege_beyond_login(settings: Settings) -> None:
    query = "SELECT rolname, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls, rolpassword FROM pg_authid"
    async with owner(settings) as connection:
        found = {row["rolname"]: row for row in await connection.fetch(query)}
    for package in PACKAGES:
        mine = found[f"otb_{package}"]
        assert not any(mine[name] for name in ("rolsuper", "rolcreatedb", "rolcreaterole", "rolbypassrls"))
        assert mine["rolpassword"].startswith("SCRAM-SHA-256$")
