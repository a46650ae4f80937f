"""Billing's own list of what it sent against what we hold: only theirs, only ours, and what differs (I23)."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.ids import AccountId, Reference, repayment_id
from schemas.money import AmountMinor, Currency
from services.cli.servers import Connection
from services.cli.terminal import USAGE, Problem
from services.console.model import SourceDiffers
from services.runtime.settings import Settings

CASES_MAX: Final = 100
"""Cases one run opens; more differences than that are one problem, and not a person's each."""
# What of these sources came as paid, whatever was said of it later.
HELD: Final = """
SELECT source, external_ref, account_id, amount_minor, currency FROM repayment_ingest.reference
WHERE source = ANY ($1::text[]) AND kinds && ARRAY['succeeded', 'returned']
"""
COMPARED: Final = ("account_id", "amount_minor", "currency")

Which = Literal["only_theirs", "only_ours", "differs"]


class Sent(BaseModel):
    """One repayment of billing's list: a line of JSON; what else the line says is not compared."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    source: Reference
    external_ref: Reference
    account_id: Annotated[AccountId, Reference]
    amount_minor: AmountMinor
    currency: Currency


class Difference(NamedTuple):
    """A repayment in which billing and we differ; ``fields`` are those that say different things."""

    which: Which
    source: str
    external_ref: str
    account_id: str
    fields: str

    @property
    def case(self) -> SourceDiffers:
        """Return what a person has to look at."""
        return SourceDiffers(
            AccountId(self.account_id), repayment_id(self.source, self.external_ref), self.fields or self.which
        )


def read(path: Path) -> list[Sent]:
    """Read a file of JSON lines; raise Problem with the line that is none."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if line.strip():
            try:
                found.append(Sent.model_validate_json(line))
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                place = ".".join(str(part) for part in first["loc"]) or "line"
                raise Problem(f"{path}, line {number}: {place} is wrong ({first['type']})", USAGE) from error
    if not found:
        raise Problem(f"{path} names no repayment", USAGE)
    return found


async def differences(connection: Connection, sent: Sequence[Sent]) -> list[Difference]:
    """Compare the whole list of each source that ``sent`` names with what we hold of it."""
    rows = await connection.fetch(HELD, sorted({each.source for each in sent}))
    return compared(sent, rows)


def compared(sent: Iterable[Sent], held: Iterable[Mapping[str, object]]) -> list[Difference]:
    """Return the three lists, in the order of their references."""
    theirs = {(each.source, each.external_ref): each.model_dump() for each in sent}
    ours = {(str(row["source"]), str(row["external_ref"])): dict(row) for row in held}
    found = []
    for at in sorted(theirs.keys() | ours.keys()):
        there, here = theirs.get(at), ours.get(at)
        account = str((there or here or {})["account_id"])
        if there is None or here is None:
            found.append(Difference("only_ours" if there is None else "only_theirs", *at, account, ""))
        elif fields := [name for name in COMPARED if there[name] != here[name]]:
            found.append(Difference("differs", *at, str(here["account_id"]), "+".join(fields)))
    return found


async def open_for(settings: Settings, found: Sequence[Difference]) -> int:
    """Open a case for each difference, at most CASES_MAX; return how many are new."""
    from services.cli.acting import open_cases  # the console's rules, which only this needs

    return await open_cases(settings, [difference.case for difference in found[:CASES_MAX]])
