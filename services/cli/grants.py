"""PostgreSQL's rights as deploy/access.yaml says, no more and no less; and the schemas brought up to date with them."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import asyncpg

from services.cli.declared import CONTROLS, EVERYONE, READERS, read_access
from services.cli.servers import Connection
from services.migrate import drift, migrate

PACKAGES: Final = [worker.package for worker in EVERYONE]
MAY: Final = {
    "keeps": ("select", "insert", "update", "delete"),
    "changes": ("select", "insert", "update"),
    "adds": ("select", "insert"),
    "appends": ("insert",),
    "reads": ("select",),
}
# Another than the one an observer holds for as long as it leads.
LOCK: Final = 7_261_096
# Every right our roles have on schemas, tables, views and columns, and those everybody has in our schemas.
GRANTED: Final = """
WITH named AS (
  SELECT nspname AS schema, '' AS relation, nspacl AS acl, '' AS suffix FROM pg_namespace
  UNION ALL
  SELECT nspname, relname, relacl, '' FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
  UNION ALL
  SELECT nspname, relname, attacl, ' of ' || attname FROM pg_attribute
  JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace)
SELECT coalesce(rolname, 'public') AS role, schema, relation, lower(privilege_type) || suffix AS privilege
FROM named CROSS JOIN aclexplode(acl) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE rolname = ANY ($1::text[]) OR a.grantee = 0 AND schema = ANY ($2::text[])
"""
# Rights that tables yet to be made would give.
DEFAULTS: Final = """
SELECT DISTINCT nspname AS schema, grantee.rolname AS role FROM pg_default_acl d
JOIN pg_namespace n ON n.oid = defaclnamespace CROSS JOIN aclexplode(defaclacl) AS a
JOIN pg_roles grantee ON grantee.oid = a.grantee WHERE grantee.rolname = ANY ($1::text[])
"""


class Grant(NamedTuple):
    """One thing a role may do to a relation, or with a schema when there is no relation."""

    role: str
    schema: str
    relation: str
    privilege: str


async def bring_up_to_date(dsn: str, folder: Path) -> list[str]:
    """Apply migrations, then give every role exactly its rights; return the migrations applied.

    A database that a newer build migrated keeps the rights that build gave.
    """
    applied = await migrate(dsn, PACKAGES, folder, readers=READERS, controls=CONTROLS)
    connection = cast(Connection, await asyncpg.connect(dsn))
    try:
        if not (await drift(connection, PACKAGES, READERS))["unknown"]:
            await change(connection, read_access())
    finally:
        await connection.close(timeout=5)
    return applied


def grants(document: Mapping[str, Any]) -> set[Grant]:
    """Return what the roles of ``document`` may do in PostgreSQL."""
    found = set()
    for mine in _roles(document):
        found.add(Grant(mine["role"], mine["schema"], "", "usage"))
        for what, privileges in MAY.items():
            names = mine.get(what, ())
            found |= {
                Grant(mine["role"], mine["schema"], name, privilege) for name in names for privilege in privileges
            }
    return found


async def differences(connection: Connection, document: Mapping[str, Any]) -> tuple[list[Grant], list[Grant]]:
    """Return the rights PostgreSQL lacks, and those it gives beyond the document."""
    wanted = grants(document)
    roles, schemas = ([mine[key] for mine in _roles(document)] for key in ("role", "schema"))
    rows = await connection.fetch(GRANTED, roles, schemas)
    found = {Grant(row["role"], row["schema"], row["relation"], row["privilege"]) for row in rows}
    later = {Grant(row["role"], row["schema"], "", "tables to come") for row in await connection.fetch(DEFAULTS, roles)}
    return sorted(wanted - found), sorted((found | later) - wanted)


async def change(connection: Connection, document: Mapping[str, Any]) -> None:
    """Grant what is missing and revoke what is too much, at once; who works meanwhile does not notice."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        missing, surplus = await differences(connection, document)
        for statement in statements(missing, surplus):
            await connection.execute(statement)


def statements(missing: Collection[Grant], surplus: Collection[Grant]) -> list[str]:
    """Return the SQL that makes the difference nothing."""
    granted = [f"GRANT {_right(right)} TO {_name(right.role)}" for right in missing]
    return granted + [f"{_revoked(right)} FROM {_name(right.role)}" for right in surplus]


def _revoked(right: Grant) -> str:
    if right.privilege == "tables to come":
        return f"ALTER DEFAULT PRIVILEGES IN SCHEMA {_name(right.schema)} REVOKE ALL ON TABLES"
    return f"REVOKE {_right(right)}"


def _right(right: Grant) -> str:
    privilege, _, column = right.privilege.partition(" of ")
    columns = f" ({_name(column)})" if column else ""
    if not right.relation:
        return f"{privilege} ON SCHEMA {_name(right.schema)}"
    return f"{privilege}{columns} ON {_name(right.schema)}.{_name(right.relation)}"


def _name(text: str) -> str:
    """Quote a name; everybody is a keyword."""
    doubled = text.replace('"', '""')
    return "PUBLIC" if text == "public" else f'"{doubled}"'


def _roles(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    own = [who["postgres"] for who in (*document["services"], *document["readers"])]
    return [*own, *(at for who in document["controls"] for at in who["postgres"])]
