"""A story told in another way has the same books: on other partitions, accounts in another order, twice, in parts.

Each way runs through the workers' own loops, without faults; what a clock of ours says is left out of the comparison.
"""

import asyncio
import os
from collections import Counter
from copy import copy
from dataclasses import dataclass
from functools import cache
from random import Random

import pytest
from typing_extensions import override

from services.cli.workers import WORKERS
from tests.simulation.script import STEP_SECONDS, Played, Recorded, ToldTwice, books, permuted
from tests.simulation.world import World

SEEDS = range(16 if os.getenv("OTB_CI") == "1" else 8)


@cache
def recorded(seed: int) -> Recorded:
    """Return a story that was played, with its script."""
    story = Recorded(seed)
    story.played()
    return story


@cache
def base(seed: int) -> dict[str, list[str]]:
    return books(recorded(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_on_eight_partitions_the_books_are_those_of_one(seed: int) -> None:
    assert books(Played(recorded(seed), partitions=8).played()) == base(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_accounts_know_nothing_of_each_other_s_order(seed: int) -> None:
    script = recorded(seed).script
    other = permuted(script)
    assert other != script
    assert books(Played(recorded(seed), other).played()) == base(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_topic_written_again_is_read_by_the_workers_and_changes_nothing(seed: int) -> None:
    twice = ToldTwice(recorded(seed))
    twice.played()
    assert books(twice) == base(seed)
    assert known(twice) == known(recorded(seed)), "what was told twice has one row in each inbox"
    duplicates = {worker.name: counted(twice, worker.package) for worker in WORKERS}
    read = {
        worker.name: sum(len(log) for (topic, _), log in twice.broker.logs.items() if topic in worker.topics)
        for worker in WORKERS
    }
    assert all(duplicates[name] == read[name] // 2 for name in read), (duplicates, read)


def known(world: World) -> dict[str, int]:
    return {service: len(own.inbox.rows) for service, own in world.database.services.items()}


def counted(world: World, package: str) -> int:
    """Return how many records a service knew already."""
    rows = world.database.services[package].progress
    return sum(row["duplicates"] for row in rows.all())


def test_a_story_that_lacks_a_word_has_other_books() -> None:
    script = recorded(0).script
    reports = [n for n, told in enumerate(script) if told.topic == "billing.repayment.v1"]
    story = Played(recorded(0), script[: reports[0]] + script[reports[0] + 1 :])
    story.billing = copy(story.billing)
    story.billing.succeeded = {}  # else what lacks would be asked for
    story.run()
    assert books(story) != base(0)


@dataclass(frozen=True)
class Terms:
    """An account with a debt, and what is repaid of it."""

    rail: str
    bought: int
    fee: int
    repaid: int


class InParts(Recorded):
    """One account that repays by one rail, at one instant, in ``parts``."""

    def __init__(self, seed: int, terms: Terms, parts: tuple[int, ...]) -> None:
        super().__init__(seed)
        self.terms, self.parts = terms, parts
        self.at_first: dict[str, object] = {}

    @override
    async def tell_all(self) -> None:
        self.script_open = True
        billing, terms = self.billing, self.terms
        customer = billing._customer(0)
        billing.customers = [customer]
        billing._open(customer)
        billing.buy(customer, terms.bought)
        billing.charge(customer, terms.fee, 0)
        await asyncio.sleep(STEP_SECONDS)
        for part in self.parts:
            billing.report(customer, billing.take(customer, part, rail=terms.rail))
        await asyncio.sleep(STEP_SECONDS)
        self.at_first = sums(self)


def sums(world: World) -> dict[str, object]:
    """Return both ledgers of every account, and what is in parts of which state and date."""
    services = world.database.services
    debts = [
        [
            row[name]
            for name in ("penalty_minor", "fee_minor", "interest_minor", "principal_minor", "credit_balance_minor")
        ]
        for row in services["settlement"].tables["account"].all()
    ]
    credit = [
        [row[name] for name in ("available_minor", "used_debt_minor", "pending_minor", "credit_balance_minor")]
        for row in services["limit_release"].tables["account"].all()
    ]
    parts: Counter[tuple[str, str]] = Counter()
    for row in services["limit_release"].tables["tranche"].all():
        parts[row["state"], str(row["until"]) if row["until"].second == 0 else "at once"] += row["amount_minor"]
    return {"debts": debts, "credit": credit, "parts": parts}


@pytest.mark.parametrize("seed", SEEDS)
def test_one_repayment_in_two_parts_gives_back_the_same_on_the_same_days(seed: int) -> None:
    chance = Random(seed)  # noqa: S311  # it must be repeatable
    bought = 4 * chance.randint(10_000, 20_000)
    rail = chance.choice(("wallet", "direct_debit", "direct_debit", "card"))
    terms = Terms(rail, bought, chance.choice((0, 4_000)), 4 * chance.randint(2_500, bought // 4))
    first = 4 * chance.randint(500, terms.repaid // 4 - 600)
    whole, split = InParts(seed, terms, (terms.repaid,)), InParts(seed, terms, (first, terms.repaid - first))
    for world in (whole, split):
        world.played()
    assert whole.at_first == split.at_first
    assert sums(whole) == sums(split)
