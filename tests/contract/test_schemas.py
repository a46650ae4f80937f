"""What is published of the wire is what the models and the workers say."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker
from pydantic import AwareDatetime, TypeAdapter
from referencing import Registry, Resource

from schemas.catalogue import EXAMPLE, catalogue, type_text
from schemas.event import Event
from schemas.export import HEADERS, asyncapi, json_schema, schema_id
from schemas.topics import DAY_MS, PARTITIONS, RISK_ACTIVE, TOPICS, TYPE_OF, dead_letter_topic
from services.cli.generate import ROOT, main, outputs, readers_of, refresh, stale
from services.cli.workers import EVERYONE
from services.runtime.codec import VALUE_MAX, encode, schema_name
from services.runtime.publisher import partition_of
from tests import builders
from tests.contract.records import Record, headers_of, read
from tests.contract.test_golden import Build, every_event

ASYNCAPI = Path(__file__).parent / "asyncapi" / "3.0.0.json"
FORMATS = FormatChecker(["date"])


@FORMATS.checks("date-time", raises=ValueError)
def _is_instant(value: object) -> bool:
    return bool(TypeAdapter(AwareDatetime).validate_python(value))


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return outputs()


def validator(event: Event) -> Draft202012Validator:
    return Draft202012Validator(json_schema(type(event)), format_checker=FORMATS)


def test_the_generated_files_are_up_to_date(texts: Mapping[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert stale(texts) == []
    assert main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_stale_files_and_schemas_of_no_event_are_named_and_made_good(
    texts: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stale(texts, tmp_path) == sorted(texts)
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    gone = "schemas/json/opentobuy.gone.v1.json"
    (tmp_path / "schemas/README.md").write_text("edited by hand")
    (tmp_path / gone).write_text("{}")
    capsys.readouterr()
    assert main(["--check"], tmp_path) == 1
    assert capsys.readouterr().out == f"stale: schemas/README.md\nstale: {gone}\n"
    assert refresh(texts, tmp_path) == ["schemas/README.md", gone]
    assert not (tmp_path / gone).exists()
    assert stale(texts, tmp_path) == []


def test_generated_text_ends_in_one_newline_and_is_the_same_each_time(texts: Mapping[str, str]) -> None:
    assert all(text.endswith("\n") and not text.endswith("\n\n") for text in texts.values())
    assert outputs() == texts


@every_event
def test_every_event_is_valid_by_its_schema(build: Build) -> None:
    event = build()
    Draft202012Validator.check_schema(json_schema(type(event)))
    validator(event).validate(json.loads(encode(event).payload))


@every_event
def test_a_schema_is_closed_and_named_as_the_header_says(build: Build) -> None:
    event = build()
    schema = json_schema(type(event))
    assert schema["$id"] == schema_id(TYPE_OF[type(event)]) == schema_name(TYPE_OF[type(event)])
    assert schema["title"] == type(event).__name__
    assert schema["description"]
    assert not validator(event).is_valid(json.loads(encode(event).payload) | {"added": 1})
    assert all(part["additionalProperties"] is False for part in objects(schema))


def objects(schema: object) -> Iterator[dict[str, Any]]:
    """Return every part of a schema that describes an object."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects(part)


@pytest.mark.parametrize(
    "change",
    [
        {"amount_minor": 10.5},
        {"amount_minor": "10"},
        {"amount_minor": 0},
        {"currency": "cny"},
        {"repaid_at": "2026-11-20T14:00:00"},
        {"repaid_at": 1763647200},
        {"external_ref": "a b"},
        {"status": "failed"},
    ],
    ids=str,
)
def test_a_schema_refuses_what_the_codec_refuses(change: dict[str, object]) -> None:
    event = builders.repayment_reported()
    assert not validator(event).is_valid(json.loads(encode(event).payload) | change)


def test_the_asyncapi_document_is_valid_by_the_official_schema(texts: Mapping[str, str]) -> None:
    official = json.loads(ASYNCAPI.read_text())
    known = [(schema["$id"], Resource.from_contents(schema)) for schema in (Draft7Validator.META_SCHEMA, official)]
    registry: Registry[Any] = Registry().with_resources(known)
    check = Draft7Validator(official, registry=registry)
    document = yaml.safe_load(texts["schemas/asyncapi.yaml"])
    check.validate(document)
    assert not check.is_valid(document | {"channels": {"one": {"address": 1}}})


def test_every_reference_of_the_asyncapi_document_leads_somewhere(texts: Mapping[str, str]) -> None:
    document = yaml.safe_load(texts["schemas/asyncapi.yaml"])
    found = list(references(document))
    assert len(found) > len(TYPE_OF)
    for reference in found:
        if reference.startswith("./"):
            assert f"schemas/{reference[2:]}" in texts
        else:
            at = document
            for step in reference.removeprefix("#/").split("/"):
                at = at[step]


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for item in part:
            yield from references(item)


def test_the_asyncapi_document_has_each_topic_its_writer_and_its_readers() -> None:
    document = asyncapi({"repayment.risk.v1": ["limit-release"]}, "1")
    assert list(document["channels"]) == list(TOPICS)
    receiving = [name for name, operation in document["operations"].items() if operation["action"] == "receive"]
    assert receiving == ["limit-release.receive.repayment.risk.v1"]
    sending = {name for name, operation in document["operations"].items() if operation["action"] == "send"}
    assert sending == {f"{topic.writer}.send.{topic.name}" for topic in TOPICS.values()}
    kafka = document["channels"]["billing.repayment.v1"]["bindings"]["kafka"]
    assert (kafka["partitions"], kafka["topicConfiguration"]["retention.ms"]) == (PARTITIONS, 30 * DAY_MS)


def test_the_catalogue_has_every_topic_event_and_field() -> None:
    text = catalogue(readers_of(EVERYONE), partition_of)
    for event, kind in TYPE_OF.items():
        section = text.partition(f"#### {event.__name__}\n")[2].partition("\n#")[0]
        assert f"(json/{kind}.json)" in section
        assert [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")] == [*event.model_fields]
    assert all(f"| `{name}` | {topic.writer} |" in text for name, topic in TOPICS.items())


def test_the_producer_guide_says_what_the_codec_does() -> None:
    text = catalogue({}, partition_of)
    assert f"at most {VALUE_MAX:,} bytes" in text
    assert f"| `acct_1` | {partition_of('acct_1', PARTITIONS)} |" in text
    own = dict(headers_of(builders.risk_assessed()))
    assert own.keys() == HEADERS.keys()
    assert dict(headers_of(EXAMPLE)).keys() == HEADERS.keys() - {"traceparent"}


def test_the_example_of_the_producer_guide_is_read() -> None:
    text = catalogue({}, partition_of)
    shown = text.partition("### 4. An example\n\n```\n")[2]
    pairs = dict(line.split(": ", 1) for line in shown.partition("\n```")[0].splitlines())
    body = shown.partition("```json\n")[2].partition("\n```")[0]
    headers = [(name, value.encode()) for name, value in pairs.items() if name not in {"topic", "key"}]
    assert read(EXAMPLE, Record(pairs["key"].encode(), body.encode(), headers)).event == EXAMPLE
    assert dict(headers) == dict(headers_of(EXAMPLE))


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer"}, "integer"),
        ({"type": "integer", "minimum": 0}, "integer >= 0"),
        ({"type": "integer", "exclusiveMinimum": 0, "maximum": 10**15}, "integer, 1 to 10^15"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "boolean or null"),
        ({"const": "a", "type": "string"}, "`a`"),
        ({"type": "array", "items": {"$ref": "#/$defs/Part"}, "maxItems": 2}, "list of [Part](#part), at most 2"),
    ],
)
def test_types_are_said_in_words(schema: dict[str, object], text: str) -> None:
    assert type_text(schema) == text


def test_each_worker_has_one_schema_role_and_group_and_writes_alone() -> None:
    services = yaml.safe_load((ROOT / "deploy/access.yaml").read_text())["services"]
    assert [service["name"] for service in services] == [worker.name for worker in EVERYONE]
    written = [topic for service in services for topic in service["kafka"]["writes"]]
    assert len(written) == len(set(written))
    for service, worker in zip(services, EVERYONE, strict=True):
        mine = service["postgres"]
        assert (mine["role"], mine["schema"]) == (f"otb_{worker.package}", worker.package)
        assert service["kafka"]["group"] == worker.name
        own = [topic for topic in service["kafka"]["writes"] if not topic.endswith(".dlq")]
        assert all(TOPICS[topic].writer == worker.name for topic in own)


def test_every_topic_and_dead_letter_topic_is_deployed_once() -> None:
    topics = yaml.safe_load((ROOT / "deploy/kafka/topics.yaml").read_text())["topics"]
    dead = [dead_letter_topic(topic, worker.name) for worker in EVERYONE if worker.writes for topic in worker.topics]
    assert [topic["name"] for topic in topics] == [*TOPICS, *dead]
    for topic in topics:
        assert topic["partitions"] == PARTITIONS
        assert topic["config"]["message.timestamp.type"] == "LogAppendTime"
        compacted = topic["name"] == RISK_ACTIVE.name
        assert topic["config"]["cleanup.policy"] == ("compact,delete" if compacted else "delete")
        assert topic["config"]["min.compaction.lag.ms" if compacted else "retention.ms"] >= 7 * DAY_MS
        assert (topic["config"]["retention.ms"] == -1) is compacted
