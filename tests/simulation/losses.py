"""A broker that comes back without its last records, and the operator who has what was in them told again.

What is told again is read after what was written meanwhile: a return before the repayment it returns, or before a
replay that moved it. Seeds of every test may lose a tail (world.py).
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from schemas.topics import TOPICS
from services.cli.workers import WORKERS
from services.runtime.errors import InvariantBroken

if TYPE_CHECKING:
    from tests.simulation.kafka import Record
    from tests.simulation.world import World

LOST = "records were lost"
"""What a worker says whose books have read further than Kafka goes."""
OUTSIDE = frozenset(TOPICS) - {topic.name for worker in WORKERS for topic in worker.writes}
"""Topics that no simulated worker writes: whoever does has to send again."""
OPERATOR_SECONDS = (4.0, 4.0)
"""How long nobody does anything, at least, and by up to how much longer."""
STILL_ENDING_SECONDS = 3.0
"""A start that looked at the books before they were put right and at Kafka after it fails once more."""


class Tail:
    """The last records of a world's broker: whether they are lost, and where."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.pending = False
        self.told_until = 0.0
        self.ends: dict[TopicPartition, int] = {}
        """How far what was cut went before, at the most."""
        self._cut: dict[tuple[str, int], int] = {}
        self._lost: list[Record] = []

    def explains(self, error: BaseException) -> bool:
        """Tell whether a process ends rightly: its books are ahead of what the broker kept."""
        told = isinstance(error, InvariantBroken) and LOST in str(error)
        return told and (self.pending or self.world.loop.seconds < self.told_until)

    def lose(self) -> None:
        """The machine of the broker loses power; it is back in a moment."""
        if self.pending or not any(self.world.broker.logs.values()):
            return
        world = self.world
        world.faults += 1
        world.situations["lost_tail"] += 1
        world.tell("broker", "loses power")
        self.pending, world.broker.down = True, True
        world.loop.call_later(0.2 + world.chance.random(), self._back)

    def _back(self) -> None:
        world = self.world
        most = world.chance.choice((1, 2, 5))
        for at, log in sorted(world.broker.logs.items()):
            cut = max(0, len(log) - world.chance.randint(0, most))
            if at[0] not in TOPICS or cut == len(log):
                continue
            place = TopicPartition(*at)
            self.ends[place] = max(self.ends.get(place, 0), len(log))
            self._cut[at] = cut
            self._lost += log[cut:]
            world.tell("broker", f"{at[0]}/{at[1]} ends at {cut}, it was {len(log)}")
            del log[cut:]
        world._up()
        least, more = OPERATOR_SECONDS
        world.loop.call_later(least + more * world.chance.random(), self._told_again)

    def _told_again(self) -> None:
        """Do what the runbook says: republish, and ask billing for what it sent since before the loss."""
        world = self.world
        if world.database.down or world.database.held:
            world.loop.call_later(0.1, self._told_again)
            return
        world.tell("operator", "otb republish")
        republish(world, oldest(world, self._lost))
        again = [*self._lost, *(record for at, cut in self._cut.items() for record in world.broker.logs[at][cut:])]
        for record in again:
            if record.topic in OUTSIDE:
                world.broker.append(record.topic, record.partition, record.key, record.value, record.headers)
        self._cut, self._lost, self.pending = {}, [], False
        self.told_until = world.loop.seconds + STILL_ENDING_SECONDS


def oldest(world: "World", lost: "list[Record]") -> datetime:
    """Return an instant before the first of the lost events was told, by any of the clocks."""
    values = {record.value for record in lost}
    told = [
        own.publication.rows[row[0]][2]
        for own in world.database.services.values()
        for row in own.outbox.rows.values()
        if row[8] in values
    ]
    return min(told, default=world.now()) - timedelta(minutes=5)


def republish(world: "World", since: datetime) -> None:
    """Do to the books what `otb republish` does: readers go to where the log ends, publications get a number again."""
    for own in world.database.services.values():
        for (topic, partition), row in list(own.progress.rows.items()):
            ends_at = len(world.broker.logs[topic, partition])
            over = row[3] - ends_at
            if over <= 0:
                continue
            own.progress.put((topic, partition, row[2] - over, ends_at, *row[4:]))
            for aside in list(own.set_aside.rows.values()):
                if aside[3:5] == (topic, partition) and aside[5] >= ends_at:
                    own.set_aside.put(own.set_aside.changed(aside, offset=-aside[0]))
        for publication in sorted(own.publication.rows.values()):
            if publication[2] >= since:
                own.publications += 1
                own.publication.delete(publication[0])
                own.publication.insert((own.publications, *publication[1:3], None))
                for row in [row for row in own.outbox.rows.values() if row[0] == publication[0]]:
                    own.outbox.delete(row[:2])
                    own.outbox.insert((own.publications, *row[1:]))
        own.undo.clear()
