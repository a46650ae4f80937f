"""The wire as documents for others: a JSON Schema an event, AsyncAPI for the topics. Nothing is written here."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema, NamedTupleSchema
from typing_extensions import override

from schemas.event import Event
from schemas.ids import REFERENCE_PATTERN
from schemas.topics import PARTITIONS, TOPICS, TYPE_OF, Topic

Readers = Mapping[str, Sequence[str]]
"""Topic name to the consumer groups that read it."""
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
KAFKA_BINDING: Final = "0.5.0"
HEADERS: Final[dict[str, tuple[str, bool]]] = {
    "ce_specversion": ("`1.0`", True),
    "ce_id": ("the event's `event_id`; with ce_source it makes a repetition harmless", True),
    "ce_source": ("`/<source>` of billing's system, `/opentobuy/<service>` of ours", True),
    "ce_type": ("`opentobuy.<topic without version>.<event>.v1`", True),
    "ce_time": ("the event's `occurred_at`", False),
    "ce_subject": ("the event's `account_id`", False),
    "ce_dataschema": ("`/schemas/<ce_type>.json`", False),
    "content-type": ("`application/json`", False),
    "traceparent": ("W3C trace context", False),
}
"""CloudEvents binary mode in Kafka: header, meaning, needed to be read at all."""


class _Closed(GenerateJsonSchema):
    """JSON Schema with closed objects, without field titles that only repeat names, with names in tuples."""

    @override
    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    @override
    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        return found | {"description": _plain(found["description"]), "additionalProperties": False}

    @override
    def named_tuple_schema(self, schema: NamedTupleSchema) -> JsonSchemaValue:
        found = super().named_tuple_schema(schema)
        named = zip(schema["fields"], found["prefixItems"], strict=True)
        return found | {"prefixItems": [{"title": field["name"], **item} for field, item in named]}


def schema_id(event_type: str) -> str:
    """Return the schema's name, relative to wherever the schemas are published."""
    return f"/schemas/{event_type}.json"


def json_schema(event: type[Event]) -> dict[str, Any]:
    """Return the JSON Schema 2020-12 of what a producer may send as ``event``."""
    found = event.model_json_schema(schema_generator=_Closed)
    first = {"$schema": DIALECT, "$id": schema_id(TYPE_OF[event])}
    first |= {name: found.pop(name) for name in ("title", "description", "type")}
    return first | found


def asyncapi(readers: Readers, version: str) -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of every topic: its writer sends, ``readers`` receive."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "opentobuy",
            "version": version,
            "description": "Credit given back after a repayment: every topic, who writes it and who reads it.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS.values()},
        "operations": {
            name: operation for topic in TOPICS.values() for name, operation in _operations(topic, readers).items()
        },
        "components": {
            "messages": {
                event.__name__: _message(kind, event)
                for topic in TOPICS.values()
                for kind, event in topic.types.items()
            },
            "messageBindings": {"KeyedByAccount": {"kafka": {"key": _key(), "bindingVersion": KAFKA_BINDING}}},
            "schemas": {"CloudEventsHeaders": _headers()},
        },
    }


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "description": f"Written by {topic.writer} only, keyed by account_id.",
        "messages": {event.__name__: _ref("components", "messages", event.__name__) for event in topic.events},
        "bindings": {
            "kafka": {
                "partitions": PARTITIONS,
                "topicConfiguration": {
                    "cleanup.policy": str(topic.kept["cleanup.policy"]).split(","),
                    "retention.ms": topic.kept["retention.ms"],
                },
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def _operations(topic: Topic, readers: Readers) -> dict[str, dict[str, Any]]:
    found = {f"{topic.writer}.send.{topic.name}": _operation(topic, "send")}
    for reader in readers.get(topic.name, ()):
        group = {"groupId": {"type": "string", "const": reader}, "bindingVersion": KAFKA_BINDING}
        found[f"{reader}.receive.{topic.name}"] = _operation(topic, "receive") | {"bindings": {"kafka": group}}
    return found


def _operation(topic: Topic, action: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": _ref("channels", topic.name),
        "messages": [_ref("channels", topic.name, "messages", event.__name__) for event in topic.events],
    }


def _message(kind: str, event: type[Event]) -> dict[str, Any]:
    exact = {"ce_type": {"const": kind}, "ce_dataschema": {"const": schema_id(kind)}}
    return {
        "name": kind,
        "title": event.__name__,
        "summary": summary(event),
        "contentType": "application/json",
        "headers": {
            "allOf": [_ref("components", "schemas", "CloudEventsHeaders"), {"type": "object", "properties": exact}]
        },
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"./json/{kind}.json"},
        },
        "bindings": _ref("components", "messageBindings", "KeyedByAccount"),
    }


def _headers() -> dict[str, Any]:
    properties: dict[str, dict[str, Any]] = {
        name: {"type": "string", "description": meaning} for name, (meaning, _) in HEADERS.items()
    }
    properties["ce_specversion"]["const"] = "1.0"
    properties["ce_time"]["format"] = "date-time"
    return {
        "type": "object",
        "description": "CloudEvents 1.0, binary mode of the Kafka binding; header values are UTF-8.",
        "properties": properties,
        "required": [name for name, (_, needed) in HEADERS.items() if needed],
    }


def _key() -> dict[str, Any]:
    return {
        "type": "string",
        "pattern": REFERENCE_PATTERN,
        "description": "account_id in UTF-8; the partition is murmur2 of it, as Java's default partitioner does.",
    }


def summary(event: type[Event]) -> str:
    """Return the first line of an event's docstring."""
    return _plain(str(event.__doc__)).partition("\n")[0]


def _plain(text: str) -> str:
    return text.replace("``", "`")


def _ref(*steps: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(steps)}
