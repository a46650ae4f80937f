"""What `otb doctor` asks PostgreSQL: migrations, durability, clocks, how far each reader is against Kafka."""

from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from services.cli.declared import EVERYONE, READERS, read_access
from services.cli.finding import Finding, told
from services.cli.grants import differences
from services.cli.republish import strays_of
from services.cli.servers import connected
from services.migrate import drift
from services.runtime.clock import utc_now
from services.runtime.settings import Settings

OFFSET_MAX_SECONDS: Final = 1.0
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1", "")
VERIFIED: Final = ("verify-full", "verify-ca")
CLOCK: Final = "SELECT clock_timestamp()"
# What must be on for a commit to survive a crash, and is not: for everybody, or for one of our roles or this database.
UNSAFE: Final = """
SELECT name || ' = off' AS what FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'
UNION
SELECT coalesce(rolname, 'this database') || ': ' || change FROM pg_db_role_setting
LEFT JOIN pg_roles ON pg_roles.oid = setrole CROSS JOIN unnest(setconfig) AS change
WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND (setrole = 0 OR rolname LIKE 'otb\\_%') AND change LIKE 'synchronous_commit=off'
"""
DATA_FOLDER: Final = "SELECT setting FROM pg_settings WHERE name = 'data_directory'"
PACKAGES: Final = [worker.package for worker in EVERYONE]


async def migrations(settings: Settings) -> list[Finding]:
    """Check that the database has this build's migrations, with their texts, and no others."""
    async with connected(settings) as connection:
        found = await drift(connection, PACKAGES, READERS)
    wrong = [f"{kind}: {name}" for kind, names in found.items() for name in names]
    if found["changed"]:
        fix = "an applied migration was edited: take the build it came from, and put the change into a new file"
    elif found["unknown"]:
        fix = "a newer build migrated this database: run that build"
    else:
        fix = "run `otb migrate`"
    return [told("migrations", wrong, "every schema is this build's", fix)]


async def grants(settings: Settings) -> list[Finding]:
    """Check what each role may do against deploy/access.yaml."""
    async with connected(settings) as connection:
        missing, surplus = await differences(connection, read_access())
    wrong = [
        *(f"missing: {' '.join(right)}" for right in missing),
        *(f"too much: {' '.join(right)}" for right in surplus),
    ]
    return [told("grants", wrong, "every role has the rights of deploy/access.yaml", "run `otb migrate`")]


async def durability(settings: Settings) -> list[Finding]:
    """Check that what was committed survives a crash."""
    async with connected(settings) as connection:
        unsafe = [row["what"] for row in await connection.fetch(UNSAFE)]
    return [told("durability", unsafe, "a commit survives a crash", "set it to on: a lost commit is lost money")]


async def clock(settings: Settings) -> list[Finding]:
    """Compare this machine's clock with the database's, which every due date goes by."""
    async with connected(settings) as connection:
        before = utc_now()
        theirs = await connection.fetchval(CLOCK)
        after = utc_now()
    ahead = (before + (after - before) / 2 - theirs).total_seconds()
    wrong = [f"this machine is {ahead:+.1f} s from the database"] if abs(ahead) > OFFSET_MAX_SECONDS else []
    return [told("clock", wrong, f"{ahead:+.3f} s from the database's", "synchronise both clocks (NTP)")]


async def encryption(settings: Settings) -> list[Finding]:
    """Check that a password or a record crosses a network encrypted only."""
    dsn = urlsplit(settings.postgres_dsn.get_secret_value() if settings.postgres_dsn else "")
    kafka = (settings.kafka_bootstrap_servers or "").rpartition(":")[0]
    wrong = []
    if (dsn.hostname or "") not in LOOPBACK and parse_qs(dsn.query).get("sslmode", [""])[0] not in VERIFIED:
        wrong.append(f"PostgreSQL at {dsn.hostname} without sslmode=verify-full in OTB_POSTGRES_DSN")
    if kafka not in LOOPBACK and not settings.kafka_security.endswith("SSL"):
        wrong.append(f"Kafka at {kafka} with OTB_KAFKA_SECURITY={settings.kafka_security}")
    fix = "needed unless the network between is yours alone: deploy/README.md, With docker-compose"
    return [told("encryption", wrong, "no other machine, or encrypted", fix, "warning")]


async def positions(settings: Settings) -> list[Finding]:
    """Check that Kafka still holds what the books will read next, and that it lost nothing they read."""
    strays = await strays_of(settings)
    lost = [f"{each.topic}/{each.partition} ends before {each.service} was" for each in strays if each.lost > 0]
    removed = [f"{each.topic}/{each.partition} begins after {each.service}" for each in strays if each.lost < 0]
    removed_fix = "retention removed what was never read: let its writer tell it again, with `otb republish`"
    return [
        told("positions", lost, "Kafka holds what was read", "the broker lost records: run `otb republish`"),
        told("unread", removed, "Kafka holds what is to be read", removed_fix),
    ]


async def data_folder(settings: Settings) -> Path | None:
    """Return where the database keeps its files, on its machine."""
    async with connected(settings) as connection:
        found: str | None = await connection.fetchval(DATA_FOLDER)
    return Path(found) if found else None


CHECKS: Final = (migrations, grants, durability, clock, encryption, positions)
