"""deploy/access.yaml on a real PostgreSQL: every cell of roles x relations x operations, allowed or refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from services import migrate
from services.cli.declared import read_access
from services.cli.grants import LOCK, Grant, bring_up_to_date, differences, grants, statements
from services.lag_monitor import watch
from services.runtime.postgres import role_password
from services.runtime.settings import Settings
from tests.conftest import dsn_of
from tests.integration.support import owner

DOCUMENT = read_access()
GRANTS = grants(DOCUMENT)
ROLES = sorted({right.role for right in GRANTS})
SCHEMAS = {right.schema for right in GRANTS}
RELATIONS = """
SELECT nspname AS schema, relname AS name, relkind = 'v' AS is_view,
  (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = 1) AS first
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'v') AND nspname = ANY ($1::text[]) ORDER BY 1, 2
"""


@asynccontextmanager
async def role(settings: Settings, name: str) -> AsyncIterator[Any]:
    """Connect as a login role; the readers' one may write here, so that its rights alone refuse it."""
    connection = await asyncpg.connect(dsn_of(settings), user=name, password=role_password(settings, name))
    try:
        await connection.execute("SET default_transaction_read_only = off")
        yield connection
    finally:
        await connection.close()


async def allowed(connection: Any, statement: str) -> bool:
    """Tell whether PostgreSQL lets the role run a statement; whatever else is wrong with it, nothing stays."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return False
    except asyncpg.PostgresError:
        return True
    finally:
        await transaction.rollback()
    return True


def attempts(name: str, first: str) -> dict[str, str]:
    """Return one statement an operation that touches no row."""
    return {
        "select": f"SELECT {first} FROM {name} LIMIT 0",  # noqa: S608  # names come from the catalogue
        "insert": f"INSERT INTO {name} DEFAULT VALUES",
        "update": f"UPDATE {name} SET {first} = DEFAULT WHERE false",  # noqa: S608
        "delete": f"DELETE FROM {name} WHERE false",  # noqa: S608
        "truncate": f"TRUNCATE {name}",
        "lock": f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE",
        "alter": f"ALTER TABLE {name} DISABLE TRIGGER USER",
        "drop": f"DROP TABLE {name} CASCADE",
    }


@pytest.mark.parametrize("name", ROLES)
async def test_every_table_is_read_and_written_by_those_who_may_alone(settings: Settings, name: str) -> None:
    """What has UPDATE or DELETE may lock a table: PostgreSQL counts that as one right."""
    async with owner(settings) as connection:
        relations = await connection.fetch(RELATIONS, sorted(SCHEMAS))
    mine = {(right.schema, right.relation, right.privilege) for right in GRANTS if right.role == name}
    done: set[tuple[str, str, str]] = set()
    async with role(settings, name) as connection:
        for row in relations:
            for operation, statement in attempts(f'{row["schema"]}."{row["name"]}"', f'"{row["first"]}"').items():
                if (operation == "select" or not row["is_view"]) and await allowed(connection, statement):
                    done.add((row["schema"], row["name"], operation))
    locked = {(schema, table, "lock") for schema, table, right in mine if right in ("update", "delete")}
    assert done == {right for right in mine if right[1]} | locked
    assert len(relations) > 80


@pytest.mark.parametrize("name", ROLES)
async def test_nobody_but_the_owner_makes_anything_in_a_schema(settings: Settings, name: str) -> None:
    async with role(settings, name) as connection:
        for schema in (*sorted(SCHEMAS), "public"):
            assert not await allowed(connection, f"CREATE TABLE {schema}.mine (n integer)")
            assert not await allowed(connection, f"CREATE VIEW {schema}.mine AS SELECT 1")


async def test_the_document_names_every_table_and_view_and_the_catalogue_has_no_other_right(settings: Settings) -> None:
    async with owner(settings) as connection:
        found = {(row["schema"], row["name"]) for row in await connection.fetch(RELATIONS, sorted(SCHEMAS))}
        assert await differences(connection, DOCUMENT) == ([], [])
    named = {(right.schema, right.relation) for right in GRANTS if right.relation}
    watching = {at for at in found if at[0] == "watching" and at[1] == "migration"}
    assert found - watching == named


def test_names_are_quoted() -> None:
    odd = Grant('o"dd', "schema", "table", 'update of co"lumn')
    assert statements([odd], []) == ['GRANT update ("co""lumn") ON "schema"."table" TO "o""dd"']


async def test_rights_are_given_while_an_observer_leads(settings: Settings) -> None:
    """A lock shared with whoever leads would let `otb migrate` wait for as long as it leads."""
    assert settings.secrets_dir is not None
    async with role(settings, "otb_lag_monitor") as leading:
        assert await leading.fetchval(watch.LEAD, watch.LOCK)
        async with asyncio.timeout(30):
            await bring_up_to_date(dsn_of(settings), settings.secrets_dir)
    assert len({migrate.LOCK, LOCK, watch.LOCK}) == 3
