"""What may never be wrong (reliability 2), over the simulated tables: always, and at rest."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from services.cli.workers import WORKERS
from services.notifier.domain import JITTER, RETRY_SECONDS
from services.risk_scoring.accounts import REVIEW
from tests.simulation import rules
from tests.simulation.runtime_books import Books

if TYPE_CHECKING:
    from tests.simulation.world import World

LEGS = ("available_minor", "used_debt_minor", "used_authorisation_minor", "pending_minor")
PENDING = ("held", "parked", "lapsed")
LONGEST_WAIT = timedelta(seconds=RETRY_SECONDS[-1] * (1 + JITTER) + 1)
ENDED = ("settled", "rejected", "returned")


def always(world: "World") -> None:
    """Find an invariant broken that holds at every instant."""
    for name, told in _broken_at_any_time(world):
        world.wrong(f"{name}: {told}")
        return


def at_rest(world: "World") -> None:
    """Find an invariant broken once everything came to rest."""
    for found in (_broken_at_any_time(world), _broken_at_rest(world)):
        for name, told in found:
            world.wrong(f"{name}: {told}")
            return


Found = Iterator[tuple[str, str]]


def _broken_at_any_time(world: "World") -> Found:
    for package, books in world.database.services.items():
        if package in world.database.held:
            continue  # in the middle of a transaction: nobody sees these rows yet
        yield from _offsets(package, books)
        if package == "notifier":
            yield from _tries_come(world, books)
        if package == "limit_release":
            yield from _ledger(books)
            yield from _tranches(books)
            yield from rules.overpayments_wait(books)


def _offsets(package: str, books: Books) -> Found:
    """I13: every offset is an inbox row, a duplicate, a gap or a dead letter."""
    counted = Counter((row[2], row[3]) for row in books.inbox.rows.values())
    counted.update(
        (row[3], row[4]) for row in books.set_aside.rows.values() if row[1] == "dead_letter" and row[2] != "done"
    )
    for at, row in books.progress.rows.items():
        told = counted[at] + row[4] + row[5]
        if row[3] - row[2] != told:
            yield "no_offset_skipped", f"{package} {at}: {row[3] - row[2]} read, {told} accounted for"


def _tries_come(world: "World", books: Books) -> Found:
    """I9: a message that was not delivered is tried again within the longest wait."""
    latest = world.now() + LONGEST_WAIT
    for at, row in books.tables["delivery"].rows.items():
        if row[1] == "requested" and row[3] > latest:
            yield "waits_explained", f"{at} is tried again at {row[3]}"


def _ledger(books: Books) -> Found:
    """I2: the account is the sum of its journals (I1, I7 and the identity are checked where a row is written)."""
    sums: dict[str, list[int]] = {}
    for row in books.tables["journal"].rows.values():
        total = sums.setdefault(row[0], [0] * 5)
        for n in range(5):
            total[n] += row[3 + n]
    for at, row in books.tables["account"].rows.items():
        if sums.get(at) != list(row[5:10]):
            yield "limit_identity", f"{at}: {row[5:10]} but its journals come to {sums.get(at)}"


def _tranches(books: Books) -> Found:
    """I3 to I6: restorable is conserved, pending equals what waits, one RELEASE a restored tranche."""
    pending: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    releases = {at[2]: row[4] for at, row in books.tables["journal"].rows.items() if at[1] == "RELEASE"}
    restored = set()
    for row in books.tables["tranche"].rows.values():
        parts[row[0]] += row[3]
        if row[4] in PENDING:
            pending[row[2]] += row[3]
        if row[8] is not None:
            ref = f"{row[0]}:{row[1]}"
            restored.add(ref)
            if releases.get(ref) != row[3]:
                yield "restored_once", f"{ref} restored {row[3]}, its RELEASE says {releases.get(ref)}"
    if releases.keys() - restored:
        yield "restored_once", f"released and not restored: {sorted(releases.keys() - restored)}"
    for at, row in books.tables["account"].rows.items():
        if row[9] != pending[at]:
            yield "pending_equals_holds", f"{at}: {row[9]} pending, {pending[at]} in tranches"
    for at, row in books.tables["repayment"].rows.items():
        tranches = any(key[0] == at for key in books.tables["tranche"].rows)
        if row[2] and not (row[3] and not tranches) and row[7] + row[9] != parts[at] + row[10]:
            yield "restorable_conserved", f"{at}: {row[7]} + {row[9]} restorable, {parts[at]} + {row[10]} in parts"


def _broken_at_rest(world: "World") -> Found:
    services = world.database.services
    yield from _facts_are_known(world)
    yield from _purchases_are_used(services["settlement"], services["limit_release"])
    yield from _settled_is_booked(services["settlement"], services["limit_release"])
    yield from _waits(world)
    yield from _debt_reconciles(world)
    yield from _shown(services["limit_release"])
    yield from _late_is_told(services["limit_release"])
    yield from _told(world)
    yield from _received(world)
    yield from rules.broken(world)


def _facts_are_known(world: "World") -> Found:
    """I16, I23: what billing said of a debt is there, and every repayment it took is in a lane."""
    settlement = world.database.services["settlement"]
    known: dict[str, set[str]] = {}
    for at, ref in settlement.tables["entry"].rows:
        known.setdefault(at, set()).add(ref)
    for at, facts in world.billing.facts.items():
        if facts != known.get(at, set()):
            yield "source_reconciled", f"{at}: billing and settlement differ in {facts ^ known.get(at, set())}"
    lanes = settlement.tables["repayment"].rows
    for at, taken in world.billing.succeeded.items():
        row = lanes.get(at)
        if row is None or row[2] not in ENDED:
            yield "accepted_is_decided", f"{taken.ref} of {taken.account_id} is {row[2] if row else 'nowhere'}"
        elif taken.returned and row[2] == "settled":
            yield "returns_applied", f"{taken.ref} was taken back and is settled"
        elif row[3] != taken.amount_minor and not taken.contradicted:
            yield "source_reconciled", f"{taken.ref} is {row[3]}, billing took {taken.amount_minor}"


def _purchases_are_used(settlement: Books, release: Books) -> Found:
    """I16: what was bought uses the limit, once."""
    used: Counter[str] = Counter()
    for (_, kind, ref), row in release.tables["journal"].rows.items():
        if kind in ("POST", "PURCHASE"):
            used[ref] += row[5]
    for (_, ref), row in settlement.tables["entry"].rows.items():
        if row[2] == "purchase" and used[row[5]] != row[6][0][0]:
            yield "purchase_is_used", f"{ref}: {row[6][0][0]} bought, {used[row[5]]} used"


def _settled_is_booked(settlement: Books, release: Books) -> Found:
    """I16, I18: SETTLE says what settlement says, and a return is taken back."""
    booked = {at[2]: row[7] for at, row in release.tables["journal"].rows.items() if at[1] == "SETTLE"}
    known = release.tables["repayment"].rows
    for at, row in settlement.tables["repayment"].rows.items():
        if row[2] not in ("settled", "returned"):
            if at in booked:
                yield "booked_is_settled", f"{at} is {row[2]} and booked"
            continue
        mine = known.get(at)
        if mine is None or not (mine[2] or mine[3]):
            yield "settled_is_booked", f"{at} was settled and never assessed"
        elif at in booked and booked[at] != row[14]:
            yield "settled_is_booked", f"{at}: settlement says {row[14]}, {booked[at]} is booked"
        elif at not in booked and row[14] and not mine[3]:
            yield "settled_is_booked", f"{at}: {row[14]} settled, nothing booked"
        if row[2] == "returned" and not (mine and mine[3]):
            yield "returns_applied", f"{at} was returned and not taken back"


def _waits(world: "World") -> Found:
    """I9: at rest nothing waits but lapsed credit; every hold's date has come."""
    release = world.database.services["limit_release"]
    for row in release.tables["tranche"].rows.values():
        if row[4] in ("held", "parked"):
            yield "waits_explained", f"{row[0]}:{row[1]} is {row[4]} since {row[5]}"
    for package, books in world.database.services.items():
        for row in books.set_aside.rows.values():
            if row[1] == "parked" and row[2] in ("open", "ready"):
                yield "waits_explained", f"{package} still parks {row[3]}/{row[4]}/{row[5]}: {row[11]}"


def _debt_reconciles(world: "World") -> Found:
    """I17: both ledgers say the same net debt once every hold is over, and no principal is owed as charges."""
    settlement = world.database.services["settlement"].tables["account"].rows
    for at, row in world.database.services["limit_release"].tables["account"].rows.items():
        if row[3] == "closed" or at not in settlement:
            continue
        here = row[7] + row[11] - row[10]
        there = sum(settlement[at][3]) - settlement[at][4]
        if here != there:
            yield "debt_reconciles", f"{at}: limit-release says {here}, settlement {there}"
        if world.profile(row[1]).limit_basis == "PRINCIPAL" and row[7] < settlement[at][13]:
            yield "debt_reconciles", f"{at}: {settlement[at][13]} of principal is owed, only {row[7]} uses the limit"


def _shown(release: Books) -> Found:
    """I8: what is shown is the ledger's number, never below 0, and 0 has its reason."""
    for at, row in release.tables["account"].rows.items():
        true = row[6] + (row[10] if row[15] else 0)
        shown = 0 if row[3] != "active" else max(0, true)
        whole = row[3] == "active" and row[6] >= 0 and not row[14]
        if row[18] != shown or (row[19] is None) != (shown > 0 or whole):
            yield "shown_is_true", f"{at}: {row[18]} shown because {row[19]}, {row[6]} is available"


def _late_is_told(release: Books) -> Found:
    """I19, I21: what came back after its promise was told as delayed, and nothing came back before it was paid."""
    repayments = release.tables["repayment"].rows
    for row in release.tables["tranche"].rows.values():
        if row[8] is None:
            continue
        if row[8] > row[7] and not row[11]:
            yield "late_is_told", f"{row[0]}:{row[1]} was promised by {row[7]}, restored {row[8]}"
        if row[8] < repayments[row[0]][14] - timedelta(minutes=5):
            yield "time_ordered", f"{row[0]}:{row[1]} was restored before it was repaid"


def _told(world: "World") -> Found:
    """I10, I11: every decision is one message a channel."""
    notifier = world.database.services["notifier"].tables
    records = Counter(at[0] for at in world.database.services["limit_release"].tables["decision_record"].rows)
    causes: dict[str, set[str]] = {}
    for row in notifier["notification"].rows.values():
        causes.setdefault(row[2], set()).add(row[3])
    for at, count in records.items():
        if count > len(causes.get(at, ())):
            yield "restored_is_told", f"{at}: {count} decisions, {len(causes.get(at, ()))} told"
    asked = Counter((row[3], row[2], row[4]) for row in notifier["notification"].rows.values())
    for (caused_by, at, channel), count in asked.items():
        if count > 1:
            yield "told_once", f"{at}: {count} messages by {channel} about what {caused_by} caused"


def _received(world: "World") -> Found:
    """I11: the receiver knows each id with one text, and what is delivered was received."""
    notifier = world.database.services["notifier"].tables
    received: dict[tuple[str, str], str] = {}
    for identity, channel, text in world.received:
        if received.setdefault((identity, channel), text) != text:
            yield "told_once", f"{identity} came with two texts"
    for identity, row in notifier["delivery"].rows.items():
        message = notifier["notification"].rows[identity]
        if row[1] == "requested":
            yield "restored_is_told", f"{identity} is still requested"
        if row[1] == "delivered" and (identity, message[4]) not in received:
            yield "told_once", f"{identity} is delivered and nobody received it"
    if strange := {identity for identity, _ in received} - notifier["notification"].rows.keys():
        yield "told_once", f"received and never asked for: {sorted(strange)}"


# When the world is at rest.


def unsettled(world: "World") -> str:
    """Return what still moves by itself; empty when nothing does."""
    now = world.now()
    if world.tail.pending:
        return "nobody told again what the broker lost"
    for worker in WORKERS:
        books = world.database.services[worker.package]
        for topic in worker.topics:
            for partition in range(world.broker.partitions):
                row = books.progress.get((topic, partition))
                if (row[3] if row else 0) != len(world.broker.logs[topic, partition]):
                    return f"{worker.name} has not read {topic}/{partition} to its end"
        if any(row[3] is None for row in books.publication.rows.values()):
            return f"{worker.name} has not published all"
        if any(row[1] == "dead_letter" and row[16] is None for row in books.set_aside.rows.values()):
            return f"{worker.name} has not copied its dead letters"
        due = next((at for at in _instants(worker.package, books) if at <= now), None)
        if due is not None:
            return f"{worker.name} has something due since {due}"
    return ""


def next_due(world: "World") -> datetime | None:
    """Return when something happens next by itself."""
    services = world.database.services.items()
    return min((at for package, books in services for at in _instants(package, books)), default=None)


def _instants(package: str, books: Books) -> Iterator[datetime]:
    for row in books.timers.rows.values():
        if row[3] != REVIEW:  # a limit is reviewed for ever, twice a year: nobody waits for that
            yield row[6]
    for row in books.set_aside.rows.values():
        if row[2] == "ready":
            yield row[14]
        elif row[1] == "parked" and row[2] == "open":
            yield row[14] + timedelta(minutes=min(row[12], 60), milliseconds=1)
    if package == "notifier":
        for row in books.tables["delivery"].rows.values():
            if row[1] == "requested":
                yield row[3]


# What a seed was about.


def situations(world: "World") -> frozenset[str]:
    """Return the named situations that came about, from the events told."""
    found: set[str] = set()
    events = [
        (row[3].rsplit(".", 2)[-2], from_json(row[8]))
        for package in ("settlement", "limit_release", "risk_scoring")
        for row in world.database.services[package].outbox.rows.values()
    ]
    held = {(e["repayment_id"], e["tranche"]) for kind, e in events if kind == "HoldPlaced"}
    for kind, event in events:
        found.update(_situations_of(kind, event, held))
    tranches = world.database.services["limit_release"].tables["tranche"].rows.values()
    if any(row[10] for row in tranches):
        found.add("extension")
    parked = [row for row in world.database.services["settlement"].set_aside.rows.values() if row[1] == "parked"]
    if any(row[2] == "done" and "intake" in row[3] for row in parked):
        found.add("account_after_its_repayment")
    if any(books.collisions for books in world.database.services.values()):
        found.add("collision")
    if any(row[5] == "conflict" for row in world.database.services["repayment_ingest"].inbox.rows.values()):
        found.add("conflict")
    messages = world.database.services["notifier"].tables["notification"].rows.values()
    if any(row[6] == "restored" and row[10] is not None for row in messages):
        found.add("thawed_together")
    return frozenset(found)


def _situations_of(kind: str, event: dict[str, Any], held: set[tuple[str, int]]) -> Iterator[str]:
    match kind:
        case "RestorationReversed":
            yield from _reversals(event)
        case "RestorationParked" if (event["repayment_id"], event["tranche"]) in held:
            yield "parked_when_due"
        case "RepaymentSettled" | "RepaymentReturned" | "RepaymentsReallocated":
            if event["reallocated"]:
                yield "replay_by_value_date"
            if event.get("doubles"):
                yield "double_repayment"
        case "RestorationDelayed":
            yield "promise_broken"
        case "RiskAssessed" if event["revision"]:
            yield "verdict_revised"
        case "RepaymentRejected" | "HoldReleased" | "NothingToRestore" if (kind, event["reason"]) in BY_REASON:
            yield BY_REASON[kind, event["reason"]]


BY_REASON = {
    ("RepaymentRejected", "RETURNED_FIRST"): "return_before_its_report",
    ("RepaymentRejected", "CURRENCY_MISMATCH"): "currency_mismatch",
    ("HoldReleased", "RELEASE_REVIEWED"): "released_by_a_reviewer",
    ("HoldReleased", "RELEASE_TIMER"): "hold_ends_by_its_date",
    ("NothingToRestore", "ACCOUNT_CLOSED"): "closed_with_credit_held",
}


def _reversals(event: dict[str, Any]) -> Iterator[str]:
    if event["available_raw_minor"] < 0:
        yield "return_after_spending"
    if event["from_hold_minor"]:
        yield "partial_release_then_return" if event["from_available_minor"] else "return_while_held"
