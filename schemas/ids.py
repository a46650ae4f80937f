"""Opaque references, and ids derived from their cause so that a replay makes the same id."""

from hashlib import blake2b
from typing import Annotated, Final, NewType, Protocol, cast

from pydantic import StringConstraints

REFERENCE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,127}$"
Reference = Annotated[str, StringConstraints(pattern=REFERENCE_PATTERN)]
"""ASCII letters, digits and ``_.:/@+-``, 1 to 128 characters: no space, no NUL, no look-alike letters."""

EventId = NewType("EventId", Reference)
AccountId = NewType("AccountId", Reference)
RepaymentId = NewType("RepaymentId", Reference)
NotificationId = NewType("NotificationId", Reference)


PROBE_SOURCE: Final = "probe"
PROBE_ACCOUNT: Final = AccountId("probe")
"""Reserved: what the synthetic probe pays under. Its books are kept like any other's and are in no business figure."""
RETURN_MODEL: Final = AccountId("model:return")
"""Reserved: stands where an account does in what is told of the return model, which is nobody's."""


_LENGTHS: Final = tuple(f"{length}:" for length in range(129))
"""What stands before a part; a reference has 128 characters at most."""


def derived_id(kind: str, *parts: str) -> str:
    """Return 32 hex digits that depend on ``kind`` and ``parts`` only.

    Each part is prefixed by its length, so ("ab", "c") and ("a", "bc") differ.
    """
    text = ""
    for part in (kind, *parts):
        length = len(part)
        text += (_LENGTHS[length] if length <= 128 else f"{length}:") + part
    return blake2b(text.encode(), digest_size=16).hexdigest()


class _NamesAnEvent(Protocol):
    def __call__(self, kind: str, *cause: str) -> EventId: ...


event_id: Final = cast(_NamesAnEvent, derived_id)
"""Return the id of the event ``kind`` that ``cause`` brings about."""


def repayment_id(source: str, external_ref: str) -> RepaymentId:
    """Return the id of a repayment: the hash of billing's own reference (domain 3.1)."""
    return RepaymentId(derived_id("repayment", source, external_ref))
