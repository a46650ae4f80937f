"""What a role may do with each table and view of its schema, read from the migrations that make them."""

import re
from collections.abc import Sequence
from typing import Final

from services.migrate import texts_of

MADE: Final = re.compile(r"^CREATE (?:OR REPLACE )?(?P<kind>TABLE|VIEW) (?:IF NOT EXISTS )?(?P<name>\w+)", re.MULTILINE)
DROPPED: Final = re.compile(r"^DROP (?:TABLE|VIEW) (?:IF EXISTS )?(?P<name>\w+)", re.MULTILINE)
# A table whose trigger refuses changes only grows; one whose INSERT is revoked is the trigger's own.
GROWS: Final = re.compile(r"BEFORE UPDATE OR DELETE OR TRUNCATE ON (\w+)")
REVOKED: Final = re.compile(r"^REVOKE INSERT, UPDATE, DELETE ON (\w+)", re.MULTILINE)
OWNERS: Final = ("migration",)


def relations(package: str, readers: Sequence[str]) -> dict[str, list[str]]:
    """Return which tables a role ``keeps`` (may change), which it only ``adds`` to, and what it only ``reads``."""
    kinds: dict[str, str] = dict.fromkeys(OWNERS, "TABLE")
    grows: set[str] = set()
    theirs: set[str] = set(OWNERS)
    for text in texts_of(package, readers).values():
        for name in DROPPED.findall(text):
            kinds.pop(name, None)
        kinds |= {found["name"]: found["kind"] for found in MADE.finditer(text)}
        grows |= set(GROWS.findall(text))
        theirs |= set(REVOKED.findall(text))
    tables = {name for name, kind in kinds.items() if kind == "TABLE"}
    reads = {*(kinds.keys() - tables), *(theirs & tables)}
    if package in readers:
        return {"reads": sorted(reads - theirs)}
    adds = (grows & tables) - reads
    return {"keeps": sorted(tables - adds - reads), "adds": sorted(adds), "reads": sorted(reads)}
