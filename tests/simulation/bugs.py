"""Defects one could write, each a small patch of the product that only this test switches on; every one must be caught.

Left out because they change nothing that counts, or are caught elsewhere, each argued here:
- *A lost commit answer does not ask for republication*: the relay sends every publication older than five seconds all
  the same; only the time is lost, and order between accounts was never promised.
- *Opening an account does not wake what is parked for it*: what is parked comes back by itself (READY); see
  ``parked_for_ever`` for both together.
- *A claim takes no lease*: two processes then send the same message id, which the receiver drops, and the second
  outcome finds a delivery that ended; nothing of ours counts it twice.
- *Rows are written without their guard*: two processes meet on one account in fewer than one seed of a hundred, so a
  named test on the real PostgreSQL catches it: tests/integration/test_batch.py,
  ``test_a_batch_that_decided_on_books_changed_meanwhile_leaves_nothing_and_comes_again``.
- *Kafka's offsets are never committed*: reading begins where the books are; the group's offset is for people.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from unittest.mock import patch

from schemas.ids import NotificationId, derived_id
from schemas.reasons import Reason
from schemas.risk import Tranche as AssessedTranche
from schemas.settlement import RepaymentReturned
from services.decision import Decision, Malformed
from services.limit_release import holds, movements, returns, verdicts
from services.limit_release.model import Account, Journal, Repayment, State, Tranche
from services.notifier import domain as notifier
from services.notifier import store as notifier_store
from services.repayment_ingest import domain as ingest
from services.risk_scoring import asking
from services.risk_scoring import domain as risk
from services.risk_scoring.model import Verdict
from services.runtime import batch, codec, consumer, dead_letter, inbox, outbox, reader
from services.runtime.consumer import BatchConsumer
from services.runtime.fold import Folded
from services.runtime.inbox import Progress
from services.runtime.publisher import Publisher
from services.settlement import domain as settlement
from services.settlement import replay
from services.settlement.model import LANE
from tests.simulation import runtime_books, world

Bug = Callable[[], AbstractContextManager[Any]]
BUGS: Final[dict[str, Bug]] = {}


def bug(planted: Callable[[], Iterator[None]]) -> Callable[[], Iterator[None]]:
    BUGS[planted.__name__] = contextmanager(planted)
    return planted


@contextmanager
def instead(*patches: tuple[Any, str, Any]) -> Iterator[None]:
    """Put other values in the place of attributes, for a while."""
    with ExitStack() as stack:
        for target, name, value in patches:
            stack.enter_context(patch.object(target, name, value))
        yield


# The way of one batch.


@bug
def offset_committed_before_the_effect() -> Iterator[None]:
    turn = BatchConsumer._turn

    async def early(self: Any, records: Any) -> None:
        self.offsets |= {at: taken[-1].offset + 1 for at, taken in records.items() if taken}
        await self._commit_offsets()
        await turn(self, records)

    with instead((BatchConsumer, "_turn", early)):
        yield


@bug
def inbox_in_its_own_transaction() -> Iterator[None]:
    """Progress and inbox are kept, then, in another transaction, what they stand for."""
    record = outbox.record

    async def twice(connection: Any, progress: Any, folded: Any, outgoing: Any, **more: Any) -> Any:
        if connection.depth:
            return await record(connection, progress, folded, outgoing, **more)
        first: Folded[Any] = Folded({}, outcomes=folded.outcomes)
        await record(connection, progress, first, (), acknowledged=more["acknowledged"], writes="")
        rest = replace(folded, outcomes=[o for o in folded.outcomes if o[0].event_key is None])
        return await record(connection, Progress(), rest, outgoing, writes=more["writes"])

    with instead((outbox, "record", twice)):
        yield


@bug
def record_skipped() -> Iterator[None]:
    """The last record of a stretch is moved past and forgotten."""
    to_batch = reader.to_batch

    def shortened(worker: Any, records: Any) -> Any:
        made = to_batch(worker, {at: taken[:-1] if len(taken) > 2 else taken for at, taken in records.items()})
        longer = {(at.topic, at.partition): taken[-1].offset + 1 for at, taken in records.items() if taken}
        made.moves = [replace(m, next_offset=longer[m.topic, m.partition]) for m in made.moves]
        return made

    with instead((consumer, "to_batch", shortened)):
        yield


@bug
def poison_stops_the_partition() -> Iterator[None]:
    def decode(topic: Any, record: Any, handled: Any) -> Any:
        try:
            return original(topic, record, handled)
        except Malformed as error:
            raise TimeoutError from error

    original = codec.decode
    with instead((reader, "decode", decode)):
        yield


@bug
def no_fencing() -> Iterator[None]:
    """Progress moves from wherever it is: a zombie is not refused."""

    def moved(self: Any, moves: Sequence[Any]) -> None:
        for topic, partition, _, following, duplicates, gaps, dead in moves:
            old = self.progress.get((topic, partition))
            self.progress.put((topic, partition, old[2], following, old[4] + duplicates, old[5] + gaps, dead))

    with instead((runtime_books.Books, "_move", moved)):
        yield


@bug
def known_events_are_handled_again() -> Iterator[None]:
    with instead((batch, "_fresh", lambda arrived, known: (list(arrived), [], []))):
        yield


@bug
def timers_in_memory() -> Iterator[None]:
    """Timers die with their process."""
    values = outbox._values

    def without(progress: Any, folded: Any, outgoing: Any) -> list[object]:
        return values(progress, replace(folded, timers=[]), outgoing)

    with instead((outbox, "_values", without)):
        yield


@bug
def fired_timers_stay() -> Iterator[None]:
    values = outbox._values

    def kept(progress: Any, folded: Any, outgoing: Any) -> list[object]:
        return values(progress, replace(folded, fired=[]), outgoing)

    with instead((outbox, "_values", kept)):
        yield


@bug
def position_taken_from_kafka() -> Iterator[None]:
    """Reading begins where the broker remembers."""

    async def nowhere(self: Any, assigned: Any) -> None:
        await self._retried(lambda c: inbox.positions(c, {(at.topic, at.partition): 0 for at in assigned}))

    with instead((BatchConsumer, "_seek", nowhere)):
        yield


@bug
def parked_for_ever() -> Iterator[None]:
    """What waits for its account is neither woken nor comes back by itself."""

    def only_ready(self: Any, row: Any, now: Any) -> bool:
        return bool(row[2] == "ready")

    def asleep(self: Any, values: Any) -> None:
        """Nobody is woken."""

    with instead((runtime_books.Books, "_returns", only_ready), (runtime_books.Books, "wake", asleep)):
        yield


# The way out.


@bug
def outbox_read_by_watermark() -> Iterator[None]:
    """Ids above the last one seen: what committed later under a lower id is never sent."""
    unpublished = outbox.unpublished

    async def above(connection: Any, partitions: Any, **more: Any) -> Any:
        books = connection.books
        found = await unpublished(connection, partitions, **more)
        seen = getattr(books, "watermark", 0)
        books.watermark = max([seen, *found])
        return {at: events for at, events in found.items() if at > seen}

    with instead((outbox, "unpublished", above)):
        yield


@bug
def marked_published_before_it_is_sent() -> Iterator[None]:
    send = Publisher.send

    async def marked(self: Any, publication_id: int, outgoing: Any) -> None:
        self.acknowledged.add(publication_id)
        await send(self, publication_id, outgoing)

    with instead((Publisher, "send", marked)):
        yield


@bug
def send_error_swallowed() -> Iterator[None]:
    async def calm(self: Any) -> None:
        pending, self._pending = self._pending, {}
        for publication_id, futures in pending.items():
            for future in futures:
                try:
                    await future
                except Exception:  # noqa: BLE001, S112
                    continue
            self.acknowledged.add(publication_id)

    with instead((Publisher, "settle", calm)):
        yield


@bug
def nothing_is_sent_again() -> Iterator[None]:
    """What a dead process committed and did not send stays where it is."""

    async def nothing(self: Any, connection: Any, partitions: Any, **more: Any) -> int:
        return 0

    with instead((Publisher, "republish", nothing)):
        yield


@bug
def dead_letters_are_not_kept() -> Iterator[None]:
    async def dropped(connection: Any, asides: Any) -> None:
        """Poison is thrown away."""

    with instead((dead_letter, "put_aside", dropped)):
        yield


@bug
def webhook_id_of_each_try() -> Iterator[None]:
    message_of = notifier_store._message

    def renamed(account_id: str, n: Any) -> Any:
        return replace(message_of(account_id, n), notification_id=NotificationId(f"{n.notification_id}-{n.attempts}"))

    with instead((notifier_store, "_message", renamed)):
        yield


@bug
def delivered_before_it_is_sent() -> Iterator[None]:
    async def confident(self: Any, message: Any) -> Any:
        attempted = notifier.Attempted(message.account_id, message.notification_id, "delivered")
        self.spawn(deliver(self, message))
        return attempted

    deliver = world.Process.deliver
    with instead((world.Process, "deliver", confident)):
        yield


@bug
def retry_forgotten() -> Iterator[None]:
    """A try that failed is the last one, and nobody says so."""

    def never(notification: Any, now: datetime, after_seconds: int) -> datetime:
        return now + timedelta(days=40_000)

    with instead((notifier, "retry_at", never)):
        yield


# What is decided.


def _deciding(of: Any, decide: Any) -> tuple[Any, str, Any]:
    """Let every process of the worker whose function ``of`` is decide otherwise."""
    start = world.World.start

    def started(self: Any, worker: Any) -> Any:
        return start(self, replace(worker, decide=decide) if worker.decide is of else worker)

    return (world.World, "start", started)


@bug
def no_unique_reference() -> Iterator[None]:
    """A report is always the first one of its reference."""

    def first(policy: Any, state: Any, event: Any, moment: Any) -> Any:
        return ingest_decide(policy, replace(state, kinds=frozenset()), event, moment)

    ingest_decide = ingest.decide
    with instead(_deciding(ingest_decide, first)):
        yield


@bug
def conflict_swallowed() -> Iterator[None]:
    def calm(state: Any, *rest: Any) -> Decision[Any]:
        return Decision(state, outcome="stale", reason="reported_before")

    with instead((ingest, "_conflict", calm)):
        yield


@bug
def early_return_dropped() -> Iterator[None]:
    lane = {step: to for step, to in LANE.items() if step != ("new", "return")}
    with instead((settlement, "LANE", lane)):
        yield


@bug
def unknown_account_acknowledged() -> Iterator[None]:
    """An event before its account is taken for handled (E13)."""

    def ignored(state: Any, event: Any, moment: Any) -> Decision[Any]:
        return Decision(state, outcome="ignored")

    with instead((settlement, "_unknown", ignored)):
        yield


@bug
def replay_without_value_date() -> Iterator[None]:
    with instead((replay, "late", lambda state, at: False)):
        yield


@bug
def hold_end_voids() -> Iterator[None]:
    """The end of a hold takes the credit back, as a timeout would (R17)."""

    def void(tranche: Tranche) -> Journal:
        amount = tranche.amount_minor
        return Journal(
            "VOID", f"{tranche.repayment_id}:{tranche.number}", used_debt_minor=amount, pending_minor=-amount
        )

    with instead((holds, "release", void)):
        yield


@bug
def ledger_with_a_floor() -> Iterator[None]:
    """AVAILABLE never below 0, whatever the truth is (R8)."""
    book = Account.book

    def floored(self: Account, *journals: Journal) -> Account:
        made = book(self, *journals)
        return replace(made, available_minor=max(0, made.available_minor))

    with instead((Account, "book", floored)):
        yield


@bug
def promise_reset_by_an_extension() -> Iterator[None]:
    prolonged = holds.prolonged

    def reset(scene: Any, state: State, event: Any) -> Decision[State]:
        decision = prolonged(scene, state, event)
        known = decision.state.repayments.get(event.repayment_id)
        if known is None or not decision.events:
            return decision
        moved = replace(known.tranches[event.tranche], promised_by=event.until)
        return decision._replace(state=decision.state.put(known.put(moved)))

    with instead((holds, "prolonged", reset), (_release_domain(), "prolonged", reset)):
        yield


def _release_domain() -> Any:
    from services.limit_release import domain

    return domain


@bug
def shares_in_floating_point() -> Iterator[None]:
    """Every share is rounded by itself, so the parts do not add up (R6)."""

    def rounded(profile: Any, repaid_at: Any, held_minor: int, rests: Any) -> Any:
        amounts = [int(held_minor * (rest.share_bps / 10_000.0) * 0.999_999) for rest in rests]
        dated = zip(amounts, rests, strict=True)
        return [(amount, risk.due_at(profile, repaid_at, rest)) for amount, rest in dated if amount]

    with instead((risk, "schedule", rounded)):
        yield


@bug
def nothing_to_restore_shown_as_a_hold() -> Iterator[None]:
    judge = risk.judge

    def held(profile: Any, asked: Any) -> Any:
        verdict = judge(profile, asked)
        if verdict.tranches:
            return verdict
        until = asked.now + timedelta(days=2)
        waits = AssessedTranche(1, max(1, asked.restorable_minor), until, Reason.HOLD_RAIL_REVERSIBLE)
        return Verdict((waits,), (waits.reason,))

    with instead((risk, "judge", held)):
        yield


@bug
def cap_of_each_repayment() -> Iterator[None]:
    """The instant cap is whole again for every repayment (R14)."""

    def whole(profile: Any, state: Any, now: Any) -> int:
        return int(profile.instant_cap_by_tier[state.tier])

    with instead((asking, "instant_left", whole)):
        yield


@bug
def strike_for_the_issuers_error() -> Iterator[None]:
    counted = risk._returned

    def blamed(policy: Any, state: Any, event: RepaymentReturned) -> Any:
        return counted(policy, state, event.model_copy(update={"fault": "payer"}))

    with instead((risk, "_returned", blamed)):
        yield


@bug
def overpayment_spendable_while_held() -> Iterator[None]:
    joins = movements.joins

    def at_once(state: State, repayment: Repayment) -> tuple[State, Repayment]:
        tranches = repayment.tranches
        state, joined = joins(state, replace(repayment, tranches={}))
        return state, replace(joined, tranches=tranches)

    with instead((movements, "joins", at_once), (verdicts, "joins", at_once), (holds, "joins", at_once)):
        yield


@bug
def return_leaves_the_hold() -> Iterator[None]:
    """What is held when its repayment is returned stays held."""
    taken_back = returns._taken_back

    def only_restored(state: State, repayment: Repayment, tranche: Tranche) -> tuple[State, Repayment]:
        return (state, repayment) if tranche.state == "held" else taken_back(state, repayment, tranche)

    with instead((returns, "_taken_back", only_restored)):
        yield


@bug
def frozen_account_is_restored() -> Iterator[None]:
    """A thaw forgets what was parked (R23)."""

    def nothing(scene: Any, state: State, repayment: Repayment) -> Decision[State]:
        return Decision(state)

    with instead((_release_domain(), "thaw", nothing)):
        yield


@bug
def facts_with_an_id_of_the_moment() -> Iterator[None]:
    """A message's id follows from the event it is about and not from its cause: one decision, several messages."""

    def each(event: Any, channel: Any) -> Any:
        return NotificationId(derived_id("notification", event.event_id, "", channel))

    with instead((notifier, "notification_id", each), (notifier_store, "notification_id", each)):
        yield


@bug
def the_last_heard_word_counts() -> Iterator[None]:
    """Standing and limits follow the order of news, not the order in which they happened (E16)."""

    def any_word(occurred_at: Any, known_at: Any) -> bool:
        return True

    with instead((_release_domain(), "latest", any_word), (risk, "latest", any_word)):
        yield
