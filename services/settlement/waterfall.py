"""Which debts an amount pays, in which order, and how debts come to be due and past due."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from schemas.settlement import Standing
from services.policy import Component, Waterfall
from services.settlement.model import STANDINGS, UNCOVERED, Books, Cycle, Debt

Bucket = tuple[Standing, Component]
Take = Callable[[Iterable[int], int], int]


class Paid(NamedTuple):
    """What an amount did: the debts left, what each gave up in order, and what nobody was owed."""

    debts: tuple[Debt, ...]
    portions: tuple[Debt, ...]
    left_minor: int


@lru_cache(maxsize=64)
def places(lead: str, component: tuple[Component, ...]) -> dict[Bucket, int]:
    """Return the place of each of the 12 buckets in the waterfall.

    Due-led: what is past due whole, then due, then in advance; component-led: every penalty, then every fee, and so on.
    """
    if lead == "due":
        order = [(standing, name) for standing in STANDINGS for name in component]
    else:
        order = [(standing, name) for name in component for standing in STANDINGS]
    return {bucket: place for place, bucket in enumerate(order)}


def pay(waterfall: Waterfall, debts: tuple[Debt, ...], amount_minor: int, minimum_minor: int = 0) -> Paid:
    """Pay ``amount_minor`` down the waterfall (R2, R3, R19).

    Under highest_apr what is not yet paid of ``minimum_minor`` goes to the plan ``minimum_to`` first and the excess to
    the highest rate (R20).
    """
    if len(debts) == 1:
        return _of_one(debts[0], amount_minor)
    left = [debt.amount_minor for debt in debts]
    portions: list[Debt] = []

    def take(wanted: Iterable[int], most_minor: int) -> int:
        for index in wanted:
            if not most_minor:
                break
            taken = min(left[index], most_minor)
            if taken:
                left[index] -= taken
                most_minor -= taken
                portions.append(debts[index].of_minor(taken))
        return most_minor

    place = places(waterfall.lead, waterfall.component)
    order = _in_order([place[debt.standing, debt.component] for debt in debts], debts)
    if waterfall.principal == "oldest_due":
        rest = take(order, amount_minor)
    else:
        rest = _highest_first(waterfall, debts, order, take, amount_minor, minimum_minor)
    kept = tuple(
        debt if debt.amount_minor == owed else debt.of_minor(owed)
        for debt, owed in zip(debts, left, strict=True)
        if owed
    )
    return Paid(kept, merged(portions), rest)


def _of_one(debt: Debt, amount_minor: int) -> Paid:
    taken = min(debt.amount_minor, amount_minor)
    if taken == debt.amount_minor:
        return Paid((), (debt,), amount_minor - taken)
    return Paid((debt.of_minor(debt.amount_minor - taken),), (debt.of_minor(taken),), 0)


def _highest_first(
    waterfall: Waterfall, debts: Sequence[Debt], order: Sequence[int], take: Take, amount_minor: int, minimum_minor: int
) -> int:
    """Take from bucket after bucket, from principal the minimum and then the highest rate first; return the rest."""
    rest = amount_minor
    for bucket, group in groupby(order, key=lambda index: (debts[index].standing, debts[index].component)):
        if bucket[1] == "principal":
            principal = list(group)
            quota = min(rest, max(0, minimum_minor - (amount_minor - rest)))
            rest -= quota
            rest += take([index for index in principal if debts[index].plan == waterfall.minimum_to], quota)
            rest = take(sorted(principal, key=lambda index: -debts[index].apr_bps), rest)
        else:
            rest = take(group, rest)
    return rest


def _in_order(places: Sequence[int], debts: Sequence[Debt]) -> list[int]:
    """Return the indexes of debts by their places, in one place the oldest first."""
    keys = list(zip(places, ages(debts), strict=True))
    return sorted(range(len(keys)), key=keys.__getitem__)


def ages(debts: Sequence[Debt]) -> list[tuple[date, int]]:
    """Return what sorts debts oldest due first; what is not due yet in the order in which it will be."""
    first: dict[str, int] = {}
    for debt in debts:
        if debt.purchase_id and debt.due_on is None:
            first[debt.purchase_id] = min(debt.number, first.get(debt.purchase_id, debt.number))
    return [
        (debt.due_on, 0) if debt.due_on else (date.max, debt.number - first.get(debt.purchase_id, debt.number))
        for debt in debts
    ]


def merged(debts: Iterable[Debt]) -> tuple[Debt, ...]:
    """Return debts with equal ones as one, in the order in which each was first seen; nothing of zero."""
    found: dict[tuple[object, ...], Debt] = {}
    for debt in debts:
        place = debt.place
        same = found.get(place)
        found[place] = debt if same is None else same.of_minor(same.amount_minor + debt.amount_minor)
    return tuple([debt for debt in found.values() if debt.amount_minor])


def absorbed(waterfall: Waterfall, books: Books) -> Books:
    """Let a credit balance pay debt at once (domain 4.3): it is above zero only when nothing is owed."""
    if not books.credit_balance_minor or not books.debts:
        return books
    paid = pay(waterfall, books.debts, books.credit_balance_minor)
    return Books(paid.debts, paid.left_minor, books.cycles, books.day)


def owing(waterfall: Waterfall, books: Books, more: Iterable[Debt]) -> Books:
    """Add debts."""
    return absorbed(waterfall, books._replace(debts=merged((*books.debts, *more))))


def lessened(waterfall: Waterfall, books: Books, amount_minor: int, indexes: Iterable[int]) -> Books:
    """Cancel ``amount_minor`` of the debts at ``indexes`` in that order; what is more is the customer's money again."""
    left = [debt.amount_minor for debt in books.debts]
    for index in indexes:
        taken = min(left[index], amount_minor)
        left[index] -= taken
        amount_minor -= taken
    debts = tuple([d.of_minor(owed) for d, owed in zip(books.debts, left, strict=True) if owed])
    balance = books.credit_balance_minor + amount_minor
    return absorbed(waterfall, Books(debts, balance, books.cycles, books.day))


def uncovered(waterfall: Waterfall, books: Books, amount_minor: int) -> Books:
    """Take ``amount_minor`` out of the credit balance; what is not there is principal (R13)."""
    there = min(books.credit_balance_minor, amount_minor)
    short = Debt("in_advance", "principal", amount_minor - there, UNCOVERED)
    return owing(waterfall, books._replace(credit_balance_minor=books.credit_balance_minor - there), (short,))


def moved(waterfall: Waterfall, books: Books, amount_minor: int, to: Standing, due_on: date) -> Books:
    """Move ``amount_minor`` to ``due`` from in advance, or to ``past_due`` from due: charges in order, then by age."""
    origin: Standing = "in_advance" if to == "due" else "due"
    place = places("component", waterfall.component)
    debts = list(books.debts)
    order = _in_order([place[origin, debt.component] for debt in debts], debts)
    gone: list[Debt] = []
    for index in order:
        debt = debts[index]
        taken = min(debt.amount_minor, amount_minor) if debt.standing == origin else 0
        amount_minor -= taken
        debts[index] = debt.of_minor(debt.amount_minor - taken)
        gone.append(debt._replace(standing=to, amount_minor=taken, due_on=debt.due_on or due_on))
    return books._replace(debts=merged((*debts, *gone)))


def issued(waterfall: Waterfall, books: Books, due_minor: int, cycle: Cycle) -> Books:
    """Make a statement's amount due, and watch its minimum until its day is over."""
    due = moved(waterfall, books, due_minor, "due", cycle.due_on)
    return ended(waterfall, due._replace(cycles=tuple(sorted((*due.cycles, cycle)))))


def advanced(waterfall: Waterfall, books: Books, day: date) -> Books:
    """Let every day before ``day`` be over."""
    if day <= books.day:
        return books
    return ended(waterfall, Books(books.debts, books.credit_balance_minor, books.cycles, day))


def ended(waterfall: Waterfall, books: Books) -> Books:
    """Move what is left of the minimum of statements whose day is over to past due (domain 4.1)."""
    for cycle in books.cycles:
        if cycle.due_on >= books.day:
            break
        late = max(0, cycle.left_minor - books.owed(standing="past_due"))
        books = moved(waterfall, books, late, "past_due", cycle.due_on)
        books = books._replace(cycles=books.cycles[1:])
    return books
