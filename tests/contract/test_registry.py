"""What a schema registry is given: one subject an event, named by topic and record, additions only.

The registry here is a recording of what is asked; none was run by us.
"""

import json
from typing import Any

import httpx
import jsonschema
import pytest

from schemas.topics import TOPICS, TYPE_OF
from services.cli.registry import Refused, publish, subjects

Asked = list[tuple[str, str, dict[str, Any]]]


def registry(asked: Asked, refuses: str = "") -> httpx.Client:
    """Return a client whose registry writes down what it is asked, and refuses one path."""

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path, json.loads(request.content)))
        if request.url.path == refuses:
            return httpx.Response(409, json={"error_code": 409, "message": "Incompatible schema"})
        return httpx.Response(200, json={"id": len(asked)})

    return httpx.Client(base_url="http://registry", transport=httpx.MockTransport(answer))


def test_every_event_has_one_subject_under_its_own_topic() -> None:
    found = dict(subjects())
    assert len(found) == len(TYPE_OF) == sum(len(topic.types) for topic in TOPICS.values())
    for subject, schema in found.items():
        topic, _, record = subject.partition("-")
        assert topic in TOPICS
        assert json.loads(schema)["$id"] == f"/schemas/{record}.json"
        jsonschema.Draft202012Validator.check_schema(json.loads(schema))


def test_a_subject_takes_additions_only_before_it_takes_its_schema() -> None:
    asked: Asked = []
    with registry(asked) as client:
        assert publish(client) == len(TYPE_OF)
    subject, schema = next(subjects())
    assert asked[:2] == [
        ("PUT", f"/config/{subject}", {"compatibility": "BACKWARD_TRANSITIVE"}),
        ("POST", f"/subjects/{subject}/versions", {"schemaType": "JSON", "schema": schema}),
    ]
    assert len(asked) == 2 * len(TYPE_OF)


def test_a_schema_the_registry_refuses_is_named() -> None:
    subject, _ = next(subjects())
    with registry([], f"/subjects/{subject}/versions") as client, pytest.raises(Refused, match="Incompatible") as why:
        publish(client)
    assert subject in str(why.value)
