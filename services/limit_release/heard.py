"""What settlement last said is owed, and what billing told since: in which order they are read makes no difference."""

from typing import Final, NamedTuple

from schemas.settlement import EARLIER_MAX, Owed

LATELY_MAX: Final = 16
"""Billing's facts that are kept for what settlement, which may be read later, says of the time before them."""


class Billed(NamedTuple):
    """What a fact of billing's adds to what is owed, in minor units."""

    event_id: str
    principal_minor: int = 0
    charges_minor: int = 0
    credit_balance_minor: int = 0


class Heard(NamedTuple):
    """What is ``owed`` in settlement's newest word of ``told`` read, and the facts of billing's read ``lately``.

    Once all that word knows of billing's was read here, too, it is ``followed``: what billing told since is in it.
    """

    owed: Owed | None = None
    lately: tuple[Billed, ...] = ()
    told: int = 0
    followed: bool = False

    def billed(self, fact: Billed) -> "Heard":
        """Read a fact of billing's."""
        owed, lately = self.owed, (*self.lately, fact)[-LATELY_MAX:]
        if self.followed and owed is not None:
            return Heard(_after(owed, fact), lately, self.told, followed=True)
        return _follow(owed, lately, self.told)

    def said(self, owed: Owed | None) -> "Heard":
        """Read a word of settlement's; what it knows of billing's facts need not be kept any more.

        None is the word of an older writer: nothing is known until the next one.
        """
        if owed is None:
            return Heard(None, self.lately, self.told)
        told = self.told + 1
        if self.owed is not None and owed.number < self.owed.number:
            return self._replace(told=told)
        return _follow(owed, self.lately, told)

    @property
    def now(self) -> Owed | None:
        """Return what is owed after what was read here; None while either has read what the other has not."""
        return self.owed if self.owed and self.followed and self.owed.number == self.told else None


NOTHING: Final = Heard()


def _follow(owed: Owed | None, lately: tuple[Billed, ...], told: int) -> Heard:
    """Follow a word once all the facts it names were read here; those beside them it does not know.

    What was read before all of them it knows, unless it names fewer than it could: then it has read no other.
    """
    if owed is None or owed.read_to is None:
        return Heard(owed, lately, told)
    named = {owed.read_to, *owed.earlier}
    places = [place for place, fact in enumerate(lately) if fact.event_id in named]
    if len(places) < len(named):
        return Heard(owed, lately, told)
    if len(owed.earlier) == EARLIER_MAX:
        lately = lately[places[0] :]
    for fact in lately:
        if fact.event_id not in named:
            owed = _after(owed, fact)
    return Heard(owed, lately, told, followed=True)


def _after(owed: Owed, fact: Billed) -> Owed:
    """Return what is owed after one more fact; a credit balance pays at once (domain 4.3)."""
    principal = owed.principal_minor + fact.principal_minor
    charges = owed.charges_minor + fact.charges_minor
    balance = owed.credit_balance_minor + fact.credit_balance_minor - min(0, principal) - min(0, charges)
    principal, charges, balance = max(0, principal) - min(0, balance), max(0, charges), max(0, balance)
    # Where there is a balance one fact leaves charges or principal to pay, never both.
    paid, more = min(balance, charges), min(balance, principal)
    sums = (principal - more, charges - paid, balance - paid - more)
    return Owed(owed.number, owed.read_to, *sums, owed.earlier)
