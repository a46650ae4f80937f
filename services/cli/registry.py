"""Give a schema registry the schema of every event, for consumers that ask one; nothing of ours reads it."""

import argparse
import json
import sys
from collections.abc import Iterator

import httpx

from schemas.export import json_schema
from schemas.topics import TOPICS

COMPATIBILITY = "BACKWARD_TRANSITIVE"
"""Within a version of a topic fields are only added, and optional ones; the registry refuses anything else."""
CONTENT = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
SECONDS = 30.0


class Refused(Exception):
    """The registry does not take a schema; says which and why."""


def subjects() -> Iterator[tuple[str, str]]:
    """Yield each subject, named by topic and record (TopicRecordNameStrategy), with its schema as JSON."""
    for topic in TOPICS.values():
        for name, event in topic.types.items():
            yield f"{topic.name}-{name}", json.dumps(json_schema(event), ensure_ascii=False)


def publish(registry: httpx.Client) -> int:
    """Register what is not yet known and return how many subjects there are; raises Refused, httpx.HTTPError."""
    wanted = dict(subjects())
    for subject, schema in wanted.items():
        _ask(registry, "PUT", f"/config/{subject}", {"compatibility": COMPATIBILITY})
        _ask(registry, "POST", f"/subjects/{subject}/versions", {"schemaType": "JSON", "schema": schema})
    return len(wanted)


def _ask(registry: httpx.Client, method: str, path: str, body: dict[str, str]) -> None:
    answer = registry.request(method, path, json=body, headers=CONTENT)
    if answer.is_error:
        raise Refused(f"{method} {path}: {answer.status_code} {answer.text}")


def main() -> None:
    """Register every schema at the address given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="for example http://karapace:8081")
    address = parser.parse_args().address
    try:
        with httpx.Client(base_url=address, timeout=SECONDS, trust_env=False) as registry:
            sys.stdout.write(f"{publish(registry)} schemas are in the registry at {address}\n")
    except (Refused, httpx.HTTPError) as error:
        sys.exit(f"the registry at {address} has not every schema: {error}")


if __name__ == "__main__":
    main()
