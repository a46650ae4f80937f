"""Are billing's records right? Reads the newest of a topic and says the fix of whatever they break."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Final

import typer

from schemas.topics import BILLING_REPAYMENT, TOPICS
from services.cli.conformity import Breach, examine
from services.cli.kafka import tail
from services.cli.servers import attached
from services.cli.terminal import EPILOG, FOUND, NOT_FOUND, OK, USAGE, Json, Problem, print_json, stdout, working

LAST_MAX: Final = 100_000
EDGE: Final = tuple(name for name, topic in TOPICS.items() if topic.edge)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(conform)


def conform(
    topic: Annotated[str, typer.Option(help=f"One of billing's topics: {', '.join(EDGE)}.")] = BILLING_REPAYMENT.name,
    last: Annotated[int, typer.Option(min=1, max=LAST_MAX, help="Newest records to look at.")] = 1_000,
    as_json: Json = False,
) -> int:
    """Check billing's newest records: headers, schema, key, partition, clocks, ids, money; 1 when a rule is broken."""
    if topic not in EDGE:
        raise Problem(f"billing does not write {topic}; it writes {' and '.join(EDGE)}", USAGE)
    settings = attached(["kafka"])
    with working("reading"):
        partitions, records = asyncio.run(tail(settings, topic, last, "otb-conform"))
    if not partitions:
        raise Problem(f"Kafka has no topic {topic}: run `otb topics`", NOT_FOUND)
    if not records:
        raise Problem(f"{topic} is empty: let billing send something first", NOT_FOUND)
    breaches = examine(TOPICS[topic], partitions, records)
    if as_json:
        print_json({"topic": topic, "records": len(records), "breaches": [asdict(breach) for breach in breaches]})
    else:
        for line in lines(topic, len(records), breaches):
            stdout().print(line, markup=False)
    return FOUND if any(breach.level == "broken" for breach in breaches) else OK


def lines(topic: str, count: int, breaches: Sequence[Breach]) -> list[str]:
    """Return what a person reads: each breach with its fix and one example, then the verdict."""
    levels = Counter(breach.level for breach in breaches)
    told = [
        f"{breach.level} {breach.rule}, {breach.count} times: {breach.fix} (as in {' '.join(breach.examples[0])})"
        for breach in breaches
    ]
    verdict = f"{levels['broken']} rules broken, {levels['warning']} warnings" if breaches else "every rule is kept"
    return [*told, f"{count} records of {topic}: {verdict}"]
