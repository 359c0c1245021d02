"""Generate ``topics.md`` from the registry, for people; ``asyncapi`` has the same for tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from heliograph.bus.contract.asyncapi import ROLES
from heliograph.bus.contract.examples import INFERENCE, REQUESTS, Example
from heliograph.bus.contract.features import STANDARD, WRITES
from heliograph.bus.contract.registry import BUILT_IN, Registry
from heliograph.bus.contract.resources import API_VERSION
from heliograph.bus.contract.schemas import SCHEMAS, models, resource_models, schemas
from heliograph.bus.contract.topics import (
    DAY,
    DEFAULT_ROOT,
    KIB,
    MIB,
    Delivery,
    Stream,
)
from heliograph.bus.contract.versions import SINCE
from heliograph.core.error_codes import ANSWERS, ELSEWHERE
from heliograph.core.names import DIGEST_SCHEMA, LABEL_RULE, LABEL_SCHEMA

COMMAND = "heliograph topics --markdown > topics.md"

_DELIVERIES: dict[Delivery, str] = {
    "request": "One request, one reply. At least once; idempotent by name and document.",
    "status": "The newest value, retained: a new subscriber receives it at once.",
    "event": "At least once. The agent journals an event before it acknowledges it; the cloud stores it in a stream.",
    "ack": "From the agent to a producer on its node: the producer need not send these events again.",
    "inference": "At most once, with low latency. Every request has a deadline.",
    "log": "May be dropped.",
    "blob": "Bytes of weights, packages and samples between an edge and the cloud, and hints about them. At most once: "
    "who asks asks again. No stream stores them, and no trace has them.",
}
_DOORS = (
    ("the embedded broker, in the cloud and on nodes", "MQTT 3.1.1", "`reply_to` in the document"),
    ("mosquitto, by `heliograph up --door mosquitto` or as a node's own broker, and other external brokers",
     "MQTT 5 and 3.1.1", "the response topic, with the request's correlation data; else `reply_to`"),
    ("NATS", "NATS", "the request's reply subject; else `reply_to`"),
)  # fmt: skip


_STANDARD_ANSWERS = {
    "list": "the resources; beside the result `version`, and `continue` where more follow",
    "watch": "the resources that changed; beside the result `gone`, `version` and `more`",
    "status": "the part `status`",
}


def topics_markdown() -> str:
    """Return the topic reference, ``topics.md``, of the built-in features."""
    parts = (*_introduction(), *_topic_tables(BUILT_IN), *_examples(), *_payload_tables(BUILT_IN),
             *_resource_tables(BUILT_IN), *_error_tables())  # fmt: skip
    return "\n".join(parts) + "\n"


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
        *(f"- **{role}**: {text}" for role, text in ROLES.items()),
        "",
        "*Bridged*: the agent forwards the topic from its node to the cloud (up) or back (down). *Lane*: its priority",
        "on the way, 0 first. *Quota*: the journal's behaviour at its disk quota; `keep` refuses new events,",
        "`drop-oldest` drops and counts the oldest. *Stream*: the JetStream stream that stores the events, with its",
        "limits; `retained` where the broker keeps the newest message instead.",
        "",
        *_header("door", "speaks", "the reply comes on"),
        *(_row(*door) for door in _DOORS),
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


def _examples() -> Iterator[str]:
    yield "## Requests and answers"
    yield ""
    yield "Each body works as it stands, in this order, on a cluster of `heliograph up` whose edge is `edge-1`, for a"
    yield "client that logs in as `operator`: a reply comes on `heliograph/reply/<login>/…`. With a response topic"
    yield "leave `reply_to` out. An answer has more fields than are printed."
    yield ""
    yield from _example_table(REQUESTS)
    yield "A device asks on its node's broker, without a login, a service whose model was fitted on such samples:"
    yield ""
    yield from _example_table(INFERENCE)


def _example_table(examples: tuple[Example, ...]) -> Iterator[str]:
    yield from _header("topic", "body", "answer")
    for each in examples:
        yield _row(f"`{DEFAULT_ROOT}/{each.topic}`", f"`{_json(each.body)}`", f"`{_json(each.answer)}`")
    yield ""


def _json(tree: Any) -> str:
    return json.dumps(tree, ensure_ascii=False)


def _error_tables() -> Iterator[str]:
    yield "## Error codes"
    yield ""
    yield "`error.code` of an answer is one of these:"
    yield ""
    for codes in (ANSWERS, ELSEWHERE):
        if codes is ELSEWHERE:
            yield "These are in logs, in a job's status, in Python and on the command line alone:"
            yield ""
        yield from _header("code", "cause", "cure")
        yield from (_row(f"`{name}`", code.cause, code.cure) for name, code in codes.items())
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
    yield from _verb_tables(registry)
    for name in resource_models(registry):
        yield from _model_table(name, registry)


def _verb_tables(registry: Registry) -> Iterator[str]:
    yield "What every resource with the verb answers. An answer is the resource unless the table says otherwise:"
    yield ""
    yield from _header("verb", "body", "answer", "doc")
    for name, doc in WRITES.items():
        yield _row(f"`{name}`", "the document; `dry_run`", "", doc)
    for verb in STANDARD.values():
        yield _row(f"`{verb.name}`", _link(verb.body.__name__), _STANDARD_ANSWERS.get(verb.name, ""), verb.doc)
    yield ""
    yield "Where a body names a resource, the whole document of the resource will do in its place."
    yield ""
    yield "A resource's own verbs:"
    yield ""
    yield from _header("request", "body", "answer", "doc")
    for plural, feature in registry.features.items():
        for name in feature.verb_names:
            if name not in WRITES and name not in STANDARD:
                verb = feature.verb(name)
                answer = _link(verb.answer.__name__) if verb.answer is not None else ""
                yield _row(f"`{plural}/{name}`", _link(verb.body.__name__), answer, verb.doc)
    yield ""


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
