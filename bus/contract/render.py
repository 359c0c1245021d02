"""Generate documents from the registry: ``topics.md`` for people, AsyncAPI 3 for tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from heliograph.bus.contract.registry import BUILT_IN, Registry, declared
from heliograph.bus.contract.resources import API_VERSION
from heliograph.bus.contract.schemas import SCHEMAS, cloud_event, models, resource_models, schemas
from heliograph.bus.contract.topics import (
    DAY,
    DEFAULT_ROOT,
    KIB,
    MIB,
    REQUEST,
    Delivery,
    Role,
    Stream,
    Topic,
)
from heliograph.bus.contract.versions import SINCE
from heliograph.core.names import DIGEST_SCHEMA, LABEL_RULE, LABEL_SCHEMA

COMMAND = "heliograph topics --markdown > topics.md"

_DELIVERIES: dict[Delivery, str] = {
    "request": "One request, one reply. At least once; idempotent by name and document.",
    "status": "The newest value, retained: a new subscriber receives it at once.",
    "event": "At least once. The agent journals an event before it acknowledges it; the cloud stores it in a stream.",
    "ack": "From the agent to a producer on its node: the producer need not send these events again.",
    "inference": "At most once, with low latency. Every request has a deadline.",
    "log": "May be dropped.",
}
_ROLES: dict[Role, str] = {
    "anonymous": "any client without credentials; in the cloud it reads status and nothing else",
    "user": "a person or program with a login, for requests to the cloud",
    "operator": "people and programs that administer the system",
    "coordinator": "the cloud's control plane",
    "agent": "the one process of a node that connects to its broker and to the cloud",
    "worker": "a process that an agent launches on its node",
    "cloud-worker": "a process that the cloud's agent launches",
}


def topics_markdown() -> str:
    """Return the topic reference, ``topics.md``, of the built-in features."""
    parts = (*_introduction(), *_topic_tables(BUILT_IN), *_payload_tables(BUILT_IN), *_resource_tables(BUILT_IN))
    return "\n".join(parts) + "\n"


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0.0 document (asyncapi.com/docs/reference/specification/v3.0.0) of every topic and role,
    including those of outside features."""
    registry = declared()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Heliograph",
            "version": API_VERSION.partition("/")[2],
            "description": "Event-driven edge-cloud AI. An operation is named by the role that performs it. "
            f"`a/b/c` on MQTT is `a.b.c` on NATS. Each word of an address is {LABEL_RULE}.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/cloudevents+json",
        "servers": {
            "nats": {"host": "localhost:4222", "protocol": "nats", "description": "The cloud and the wide-area link."},
            "mqtt": {"host": "localhost:1883", "protocol": "mqtt", "description": "The node, and the public door."},
        },
        "channels": {topic.name: _channel(topic, registry) for topic in registry.topics},
        "operations": dict(_operations(registry)),
        "components": {
            "messages": {topic.name: _message(topic) for topic in registry.topics},
            "schemas": {"CloudEvent": cloud_event(), **deepcopy(schemas(registry))},
        },
    }


def _channel(topic: Topic[Any], registry: Registry) -> dict[str, Any]:
    words: dict[str, dict[str, Any]] = {name: {"description": LABEL_RULE} for name in topic.params}
    if topic is REQUEST:
        verbs = dict.fromkeys(verb for each in registry.verbs.values() for verb in each)
        words = {"resource": {"enum": list(registry.verbs)}, "verb": {"enum": list(verbs)}}
    if topic.words[-1] == "#":
        words["rest"] = {"description": f"One word or more, joined by '/'; each is {LABEL_RULE}."}
    return {
        "address": "/".join([DEFAULT_ROOT, *("{rest}" if word == "#" else word for word in topic.words)]),
        "title": topic.name,
        "description": topic.doc,
        "messages": {topic.name: {"$ref": f"#/components/messages/{topic.name}"}},
        "parameters": words,
        "tags": [{"name": topic.delivery}],
        "x-delivery": topic.delivery,
        "x-bridged": topic.bridged,
        "x-lane": topic.lane,
        "x-quota": topic.quota,
        "x-max-size": topic.max_size,
        "x-retained": topic.retained,
        "x-stream": topic.stream.name if topic.stream else None,
    }


def _operations(registry: Registry) -> Iterator[tuple[str, dict[str, Any]]]:
    for topic in registry.topics:
        for action, roles in (("send", topic.publishers), ("receive", topic.subscribers)):
            for role in roles:
                operation: dict[str, Any] = {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{topic.name}"},
                    "summary": topic.doc,
                    "messages": [{"$ref": f"#/channels/{topic.name}/messages/{topic.name}"}],
                    "tags": [{"name": role, "description": _ROLES[role]}],
                }
                if topic is REQUEST:
                    operation["reply"] = {
                        "channel": {"$ref": "#/channels/reply"},
                        "messages": [{"$ref": "#/channels/reply/messages/reply"}],
                    }
                if topic.retained and action == "send":
                    operation["bindings"] = {"mqtt": {"retain": True, "bindingVersion": "0.2.0"}}
                yield f"{role}-{action}-{topic.name}", operation


def _message(topic: Topic[Any]) -> dict[str, Any]:
    return {
        "name": topic.type,
        "title": topic.name,
        "summary": topic.doc,
        "description": "The body is the whole CloudEvents event, as JSON or MessagePack. The headers below are its "
        "attributes, the payload is its `data`.",
        "contentType": "application/cloudevents+json",
        "headers": {
            "allOf": [{"$ref": SCHEMAS + "CloudEvent"}],
            "type": "object",
            "properties": {"type": {"const": topic.type}},
        },
        "payload": {"$ref": SCHEMAS + topic.payload.__name__},
    }


def _introduction() -> list[str]:
    return [
        "# Topics",
        "",
        f"`{COMMAND}` generates this page from `bus/contract/`; edit the texts there.",
        "",
        f"All topics lie under `{DEFAULT_ROOT}/`. `a/b/c` on MQTT is `a.b.c` on NATS. `{{name}}` stands for one word,",
        f"a closing `#` for one or more. Every word is {LABEL_RULE}.",
        "",
        "A message is a CloudEvents 1.0 event as JSON or MessagePack; its `data` is the payload. The broker lets a",
        "role publish and subscribe only where the tables name it. The roles:",
        "",
        *(f"- **{role}**: {text}" for role, text in _ROLES.items()),
        "",
        "*Bridged*: the agent forwards the topic from its node to the cloud (up) or back (down). *Lane*: its priority",
        "on the way, 0 first. *Quota*: the journal's behaviour at its disk quota; `keep` refuses new events,",
        "`drop-oldest` drops and counts the oldest. *Stream*: the JetStream stream that stores the events, with its",
        "limits; `retained` where the broker keeps the newest message instead.",
        "",
    ]


def _topic_tables(registry: Registry) -> Iterator[str]:
    for delivery, text in _DELIVERIES.items():
        yield f"## {delivery.capitalize()}"
        yield ""
        yield text
        yield ""
        yield from _header("topic", "from → to", "payload", "bridged", "lane", "quota", "max size", "stream", "doc")
        for topic in registry.topics:
            if topic.delivery == delivery:
                yield _row(
                    f"`{topic.pattern}`",
                    f"{', '.join(topic.publishers)} → {', '.join(topic.subscribers)}",
                    _link(topic.payload.__name__),
                    "no, stays on its node" if topic.node_only else topic.bridged,
                    str(topic.lane) if topic.bridged != "no" else "",
                    topic.quota if topic.bridged != "no" else "",
                    _size(topic.max_size),
                    _stream(topic.stream) or ("retained" if topic.retained else ""),
                    topic.doc,
                )
        yield ""


def _payload_tables(registry: Registry) -> Iterator[str]:
    yield "## Payloads"
    yield ""
    yield "A receiver ignores fields that are not listed: the sender may be of another version. Times are RFC 3339,"
    yield "digests SHA-256 in hexadecimal."
    yield ""
    for name in models(registry):
        if name not in resource_models(registry):
            yield from _model_table(name, registry)


def _resource_tables(registry: Registry) -> Iterator[str]:
    yield "## Resources and verbs"
    yield ""
    yield f"A request goes to `{DEFAULT_ROOT}/request/<resource>/<verb>`. Every resource is a document with"
    yield f"`apiVersion: {API_VERSION}`, `kind`, `metadata`, `spec` and `status`."
    yield "The coordinator refuses a field of `metadata` or `spec` that is not listed, and names it in the reply."
    yield ""
    yield from _header("resource", "kinds", "verbs")
    for resource, verbs in registry.verbs.items():
        kinds = [_link(name) for name, kind in registry.kinds.items() if kind.plural == resource]
        yield _row(f"`{resource}`", ", ".join(kinds), ", ".join(f"`{verb}`" for verb in verbs))
    yield ""
    for name in resource_models(registry):
        yield from _model_table(name, registry)


def _model_table(name: str, registry: Registry) -> Iterator[str]:
    schema = schemas(registry)[name]
    yield f"### {name}"
    yield ""
    if schema.get("description"):
        yield schema["description"]
        yield ""
    if not schema.get("properties"):
        return
    required = schema.get("required", [])
    yield from _header("field", "type", "required", "doc")
    for field, part in schema["properties"].items():
        default = "" if part.get("default") in (None, "") else f", `{json.dumps(part['default'])}`"
        must = "yes" if field in required else f"no{default}"
        since = f"Since {part[SINCE]}." if SINCE in part else ""
        yield _row(f"`{field}`", _type(part), must, " ".join(filter(None, (part.get("description"), since))))
    yield ""


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _link(schema["$ref"].removeprefix(SCHEMAS))
    if "anyOf" in schema or "oneOf" in schema:
        # null means the absence of an optional field, which the column says already
        parts = schema.get("anyOf") or schema["oneOf"]
        some = [each for each in parts if each.get("type") != "null" or "default" not in schema]
        return " or ".join(dict.fromkeys(_type(each) for each in some))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "anything")
    if schema.get("pattern") == LABEL_SCHEMA["pattern"]:
        return "label"
    if schema.get("pattern") == DIGEST_SCHEMA["pattern"]:
        return "digest"
    if kind == "array":
        kind = f"list of {_type(schema.get('items', {}))}"
    if kind == "object":
        kind = _mapping(schema)
    if schema.get("format") == "byte":
        kind = "bytes (base64 in JSON)"
    return f"{kind}{_bounds(schema)}"


def _mapping(schema: dict[str, Any]) -> str:
    by_pattern = list(schema.get("patternProperties", {}).items())
    if by_pattern:
        pattern, values = by_pattern[0]
        return f"mapping of {_type({'type': 'string', 'pattern': pattern})} to {_type(values)}"
    values = schema.get("additionalProperties")
    return f"mapping to {_type(values)}" if isinstance(values, dict) else "mapping"


def _bounds(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥ ", "exclusiveMinimum": "> ", "maximum": "≤ "}
    texts = [f"{sign}{schema[key]}" for key, sign in signs.items() if key in schema]
    for what, unit in (("Length", "characters"), ("Items", "entries"), ("Properties", "entries")):
        if f"max{what}" in schema:
            texts.append(f"at most {schema[f'max{what}']} {unit}")
    return f" ({', '.join(texts)})" if texts else ""


def _stream(stream: Stream | None) -> str:
    if stream is None:
        return ""
    age = f", {stream.max_age / DAY:g} days" if stream.max_age else ""
    size = f", {_size(stream.max_bytes)}" if stream.max_bytes > 0 else ""
    number = f", {stream.max_messages:,} messages" if stream.max_messages > 0 else ""
    return f"`{stream.name}`{', last value' if stream.last_value else ''}{age}{size}{number}"


def _size(size: int) -> str:
    unit, name = (MIB, "MiB") if size % MIB == 0 else (KIB, "KiB")
    return f"{size / unit:g} {name}"


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _header(*titles: str) -> list[str]:
    return [_row(*titles), "|" + "---|" * len(titles)]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
