"""Who decides and why, as each command that changes something asks; and what one person may do a day."""

from typing import Annotated, Final

import typer
from pydantic import TypeAdapter, ValidationError

from schemas.ids import Reference
from services.cli.servers import Connection as Reading
from services.cli.terminal import FOUND, USAGE, Problem
from services.console.model import ACTS_A_DAY_MAX
from services.runtime.postgres import Connection

Actor = Annotated[str, typer.Option(help="Who decides: an opaque reference, kept in the audit.")]
Why = Annotated[str, typer.Option("--reason", help="Why, as a code or a ticket's reference; kept in the audit.")]
# How much an actor did in the last day.
ACTS = "SELECT count(*) AS n FROM console.audit WHERE actor = $1 AND at > clock_timestamp() - interval '1 day'"
_REFERENCE: Final[TypeAdapter[str]] = TypeAdapter(Reference)


def referenced(value: str, option: str) -> str:
    """Return a value that may be kept for ever and sent: no free text."""
    try:
        return _REFERENCE.validate_python(value)
    except ValidationError as error:
        raise Problem(f"{option} is a code: letters, digits and _.:/@+-, no spaces, at most 128", USAGE) from error


async def limited(connection: Connection | Reading, actor: str) -> None:
    """Raise Problem when an actor did enough for a day."""
    (row,) = await connection.fetch(ACTS, actor)
    if row["n"] >= ACTS_A_DAY_MAX:
        raise Problem(f"{actor} did {row['n']} things in the last 24 hours, as many as one person may", FOUND)
