"""Rules of the domain over the simulated tables, said another way than the code says them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import from_json

from schemas.ids import AccountId
from services.decision import Input
from services.settlement import replay
from services.settlement import store as settlement_store
from tests.simulation.runtime_books import Books
from tests.simulation.tables import instant

if TYPE_CHECKING:
    from tests.simulation.world import World

Found = Iterator[tuple[str, str]]
NOTHING = ("PAID_FEES_AND_INTEREST", "PAID_CREDIT_BALANCE", "ACCOUNT_CLOSED", "RETURNED")
WINDOW = timedelta(hours=72)


def broken(world: "World") -> Found:
    """Find what breaks a rule at rest."""
    services = world.database.services
    yield from _conflicts_are_kept(world, services["repayment_ingest"])
    yield from _cap_is_per_account(world, services["risk_scoring"])
    yield from _issuers_error_is_no_strike(services)
    yield from _first_promise_counts(services["limit_release"])
    yield from _books_follow_from_facts(world, services["settlement"])
    yield from _nothing_is_told_twice(services)
    yield from _the_latest_word_counts(world)
    yield from _nothing_has_its_reason(services["limit_release"])


def overpayments_wait(release: Books) -> Found:
    """Domain 4.3: an overpayment is nobody's to spend while a part of its repayment waits."""
    waiting = {row[0] for row in release.tables["tranche"].rows.values() if row[4] in ("held", "parked")}
    for at, row in release.tables["repayment"].rows.items():
        if row[5] and at in waiting:
            yield "overpayment_waits", f"{at} joined the credit balance while a part of it waits"


def _told(books: Books, kind: str) -> Iterator[dict[str, Any]]:
    for row in books.outbox.rows.values():
        if row[3].rsplit(".", 2)[-2] == kind:
            yield from_json(row[8])


def _conflicts_are_kept(world: "World", ingest: Books) -> Found:
    """R10: what contradicts its reference is never "ok"."""
    known = {row[2] for row in ingest.tables["conflict"].rows.values()}
    for ref in world.billing.contradictions - known:
        yield "conflicts_are_kept", f"{ref} was contradicted and nobody noticed"


def _cap_is_per_account(world: "World", risk: Books) -> Found:
    """R14: what came back at once within the cap in any 72 hours is within the cap of an account nobody scored."""
    caps = {c.account_id: world.profile(c.product).instant_cap_by_tier["unknown"] for c in world.billing.customers}
    given: list[tuple[str, datetime, int]] = []
    for e in _told(risk, "RiskAssessed"):
        at_once = sum(amount for _, amount, _, reason in e["tranches"] if reason == "RELEASE_WITHIN_CAP")
        if e["revision"] == 0 and at_once:
            given.append((e["account_id"], instant(e["occurred_at"]), at_once))
    for account_id, last, _ in given:
        within = [amount for at, when, amount in given if at == account_id and last - WINDOW < when <= last]
        if sum(within) > caps[AccountId(account_id)]:
            yield "cap_is_per_account", f"{account_id} had {within} at once within 72 h"


def _issuers_error_is_no_strike(services: dict[str, Books]) -> Found:
    """E20: a strike is never the issuer's own error, and every other return of a known funding account is one."""
    faults = {e["repayment_id"]: e["fault"] for e in _told(services["settlement"], "RepaymentReturned")}
    risk = services["risk_scoring"]
    for at in risk.tables["strike"].rows:
        if faults.get(at, "issuer") == "issuer":
            yield "strikes_are_fair", f"{at} is a strike, its return is the issuer's"
    for at in risk.tables["assessment"].rows.keys() - risk.tables["strike"].rows.keys():
        if faults.get(at, "issuer") != "issuer":
            yield "strikes_are_fair", f"{at} was returned by {faults[at]} and is no strike"


def _first_promise_counts(release: Books) -> Found:
    """R27: the promise that counts is the first one told, or the one a thaw made anew."""
    first: dict[tuple[str, int], datetime] = {}
    thawed: dict[tuple[str, int], set[datetime]] = {}
    for e in _told(release, "PromiseMade"):
        at, by = (e["repayment_id"], e["tranche"]), instant(e["promised_by"])
        if e["revision"] == 0:
            first[at] = by
        if e["basis"] == "clear":
            thawed.setdefault(at, set()).add(by)
    for at, row in release.tables["tranche"].rows.items():
        if row[9] and row[7] != first.get(at) and row[7] not in thawed.get(at, ()):
            yield "first_promise_counts", f"{at} was promised by {first.get(at)}, {row[7]} is kept"


def _books_follow_from_facts(world: "World", settlement: Books) -> Found:
    """R24: the debt is what its facts come to in value order, whatever the order of news was."""
    assert settlement.own is not None
    for customer in world.billing.customers:
        asked = [customer.account_id]
        row = settlement.own.read((asked, [None], [0], [True], None, None, None), world.now())
        inputs = cast(list[Input], [SimpleNamespace(account_id=customer.account_id)])
        account = settlement_store.states(inputs, row)[customer.account_id]
        if not account.product:
            continue
        again = replay.replayed(world.profile(account.product), account).state.books
        if (again.debts, again.credit_balance_minor) != (account.books.debts, account.books.credit_balance_minor):
            yield "books_follow_from_facts", f"{customer.account_id}: {account.books} but its facts come to {again}"


def _the_latest_word_counts(world: "World") -> Found:
    """E16: the standing and the limits are what billing said last, by when it happened."""
    services = world.database.services
    for customer in world.billing.customers:
        row = services["limit_release"].tables["account"].rows[customer.account_id]
        if (row[3], row[5]) != (customer.status, customer.limit):
            yield "latest_word", f"{customer.account_id} is {row[3]} with {row[5]}, billing last said {customer}"
        if services["risk_scoring"].tables["account"].rows[customer.account_id][1] != customer.limit:
            yield "latest_word", f"risk-scoring knows another limit of {customer.account_id} than {customer.limit}"


def _nothing_has_its_reason(release: Books) -> Found:
    """R3: that nothing comes back is its own outcome, never a hold."""
    for e in _told(release, "NothingToRestore"):
        if e["reason"] not in NOTHING:
            yield "nothing_has_its_reason", f"{e['repayment_id']} gives nothing back because {e['reason']}"


def _nothing_is_told_twice(services: dict[str, Books]) -> Found:
    """Every fact has an id of its own, told once however often its cause came."""
    for package, books in services.items():
        ids = [row[2] for row in books.outbox.rows.values()]
        if len(ids) != len(set(ids)):
            twice = sorted(str(at) for at in ids if ids.count(at) > 1)
            yield "told_once", f"{package} told {twice[:3]} more than once"
