"""Sends rows of billing's outbox, read from standard input, to billing.repayment.v1."""

import asyncio
import sys

from aiokafka import AIOKafkaProducer

TOPIC = "billing.repayment.v1"
TYPE = "opentobuy.billing.repayment.RepaymentReported.v1"


def headers(account_id: str, event_id: str, source: str, occurred_at: str) -> list[tuple[str, bytes]]:
    """Return the CloudEvents headers of one report."""
    known = {"specversion": "1.0", "id": event_id, "source": f"/{source}", "type": TYPE, "time": occurred_at}
    known |= {"subject": account_id, "dataschema": f"/schemas/{TYPE}.json"}
    return [("content-type", b"application/json"), *((f"ce_{name}", text.encode()) for name, text in known.items())]


async def main() -> None:
    """Send every row and wait for its acknowledgement; a row that fails is still in the outbox: run it again."""
    async with AIOKafkaProducer(bootstrap_servers=sys.argv[1], acks="all", enable_idempotence=True) as producer:
        sent = []
        for line in sys.stdin.buffer:
            *columns, body = line.rstrip(b"\n").split(b"\t")
            names = [column.decode() for column in columns]
            sent.append(await producer.send(TOPIC, key=columns[0], value=body, headers=headers(*names)))
        await asyncio.gather(*sent)


if __name__ == "__main__":
    asyncio.run(main())
