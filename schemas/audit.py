"""audit.anchor.v1: where the chain of what people did ended, kept where whoever owns the database has no say."""

from typing import Annotated

from pydantic import Field, StringConstraints

from schemas.event import DerivedEvent

Entries = Annotated[int, Field(ge=1, le=2**53)]
"""A count of audit entries, or the number of one: they are numbered from 1."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class AuditAnchored(DerivedEvent):
    """The audit ended with this entry; none before it is missing or changes later. Its account is ``unknown``."""

    seq: Entries
    hash: Sha256
    count: Entries
