"""Sends rows of billing's outbox to billing.repayment.v1; one that fails stays in the outbox: run it again."""

import asyncio
import sys

from aiokafka import AIOKafkaProducer

TYPE = "opentobuy.billing.repayment.RepaymentReported.v1"


def headers(account_id: str, event_id: str, source: str, occurred_at: str) -> list[tuple[str, bytes]]:
    """Return the CloudEvents headers of one report."""
    known = {"specversion": "1.0", "id": event_id, "source": f"/{source}", "type": TYPE, "time": occurred_at}
    known |= {"subject": account_id, "dataschema": f"/schemas/{TYPE}.json"}
    return [("content-type", b"application/json"), *((f"ce_{name}", text.encode()) for name, text in known.items())]


async def main() -> None:
    """Send every row of standard input and wait for its acknowledgement."""
    async with AIOKafkaProducer(bootstrap_servers=sys.argv[1], acks="all", enable_idempotence=True) as producer:
        rows = [line.rstrip(b"\n").split(b"\t", 4) for line in sys.stdin.buffer]
        named = [(row, headers(*(column.decode() for column in row[:4]))) for row in rows]
        sent = [await producer.send("billing.repayment.v1", row[4], row[0], headers=told) for row, told in named]
        await asyncio.gather(*sent)


asyncio.run(main())
