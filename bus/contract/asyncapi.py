"""The AsyncAPI 3 document of the topics: a channel, a message and operations for each topic, each request and each kind
of status. Requests and answers refer to the schemas of their resources, so that generated types have them."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from heliograph.bus.contract.features import WRITES, FeatureDeclaration
from heliograph.bus.contract.registry import Registry, declared
from heliograph.bus.contract.resources import API_VERSION
from heliograph.bus.contract.schemas import SCHEMAS, cloud_event, schemas
from heliograph.bus.contract.topics import ANSWER, DEFAULT_ROOT, INFERENCE_REQUEST, REPLY, REQUEST, STATUS, Role, Topic
from heliograph.core.error_codes import ANSWERS
from heliograph.core.names import LABEL_RULE, LABEL_SCHEMA

ROLES: dict[Role, str] = {
    "anonymous": "any client without credentials; in the cloud it reads status and the ends of jobs, nothing else",
    "newcomer": "a node without a login, or with an expired one: in the cloud it asks for one, nothing else",
    "user": "a person or program with a login, for requests to the cloud",
    "participant": "a program that trains by itself and takes part in federated jobs, under a login of its own",
    "operator": "people and programs that administer the system",
    "coordinator": "the cloud's control plane",
    "agent": "the one process of a node that connects to its broker and to the cloud",
    "worker": "a process that an agent launches on its node",
    "cloud-worker": "a process that the cloud's agent launches",
}
_EVENT = "application/cloudevents+json"
_LABEL = {"$ref": SCHEMAS + "Name"}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0.0 document (asyncapi.com/docs/reference/specification/v3.0.0) of every topic and role,
    including those of outside features."""
    registry = declared()
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages = dict(_messages(registry))
    for name, topic, address, carried in _channels(registry):
        channels[name] = _channel(topic, address, carried)
        operations |= _operations(name, topic, list(channels[name]["messages"]), _reply_to(name, topic))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Heliograph",
            "version": API_VERSION.partition("/")[2],
            "description": "Event-driven edge-cloud AI. An operation is named by the role that performs it. "
            f"`a/b/c` on MQTT is `a.b.c` on NATS. Each word of an address is {LABEL_RULE}. The embedded broker speaks "
            "MQTT 3.1.1; mosquitto and others speak MQTT 5, whose response topic and correlation data are honoured.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": _EVENT,
        "servers": {
            "nats": {"host": "localhost:4222", "protocol": "nats", "description": "The cloud and the wide-area link."},
            "mqtt": {"host": "localhost:1883", "protocol": "mqtt", "description": "The node, and the public door."},
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": {"CloudEvent": cloud_event(), **_request_schemas(registry), **deepcopy(schemas(registry))},
        },
    }


def _channels(registry: Registry) -> Iterator[tuple[str, Topic[Any], str, list[str]]]:
    """Yield name, topic, address and messages of each channel: one for each request and kind of status."""
    for topic in registry.topics:
        if topic is REQUEST:
            for feature in registry.features.values():
                for verb in feature.verb_names:
                    yield f"{feature.plural}-{verb}", topic, f"request/{feature.plural}/{verb}", [
                        f"{feature.plural}-{verb}"
                    ]
        elif topic is STATUS:
            for plural in registry.features:
                yield f"status-{plural}", topic, f"status/{plural}/{{name}}", [f"status-{plural}"]
        elif topic is REPLY:
            answers = [f"{plural}-{verb}-reply" for plural, verbs in registry.verbs.items() for verb in verbs]
            yield topic.name, topic, topic.pattern, [topic.name, *answers, ANSWER.name]
        else:
            yield topic.name, topic, topic.pattern, [topic.name]


def _channel(topic: Topic[Any], address: str, carried: list[str]) -> dict[str, Any]:
    words = {word[1:-1]: {"description": LABEL_RULE} for word in address.split("/") if word.startswith("{")}
    if address.endswith("#"):
        words["rest"] = {"description": f"One word or more, joined by '/'; each is {LABEL_RULE}."}
    return {
        "address": f"{DEFAULT_ROOT}/{address.replace('#', '{rest}')}",
        "title": topic.name,
        "description": topic.doc,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in carried},
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


def _reply_to(channel: str, topic: Topic[Any]) -> str:
    """Return the name of the message that answers a channel's; empty where nothing does."""
    if topic is REQUEST:
        return f"{channel}-reply"
    return ANSWER.name if topic is INFERENCE_REQUEST else ""


def _operations(channel: str, topic: Topic[Any], carried: list[str], reply: str) -> dict[str, Any]:
    found = {}
    for action, roles in (("send", topic.publishers), ("receive", topic.subscribers)):
        for role in roles:
            operation: dict[str, Any] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{channel}"},
                "summary": topic.doc,
                "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in carried],
                "tags": [{"name": role, "description": ROLES[role]}],
            }
            if reply:
                operation["reply"] = {
                    "channel": {"$ref": f"#/channels/{REPLY.name}"},
                    "messages": [{"$ref": f"#/channels/{REPLY.name}/messages/{reply}"}],
                }
            if topic.retained and action == "send":
                operation["bindings"] = {"mqtt": {"retain": True, "bindingVersion": "0.2.0"}}
            found[f"{role}-{action}-{channel}"] = operation
    return found


def _messages(registry: Registry) -> Iterator[tuple[str, dict[str, Any]]]:
    for topic in registry.topics:
        if topic is STATUS:
            for plural, feature in registry.features.items():
                yield f"status-{plural}", _event(topic, f"status-{plural}", feature.kind.__name__)
        elif topic is not REQUEST:
            bare = topic.delivery == "inference" or topic is REPLY
            build = _document if bare else _event
            yield topic.name, build(topic, topic.name, topic.payload.__name__)
    for plural, feature in registry.features.items():
        for verb in feature.verb_names:
            name = f"{plural}-{verb}"
            yield name, _document(REQUEST, name, _body_of(feature, verb))
            yield f"{name}-reply", _document(REPLY, f"{name}-reply", _answer_of(feature, verb))


def _event(topic: Topic[Any], name: str, schema: str) -> dict[str, Any]:
    return {
        "name": topic.type,
        "title": name,
        "summary": topic.doc,
        "description": "The body is the whole CloudEvents event, as JSON or MessagePack. The headers below are its "
        "attributes, the payload is its `data`.",
        "contentType": _EVENT,
        "headers": {
            "allOf": [{"$ref": SCHEMAS + "CloudEvent"}],
            "type": "object",
            "properties": {"type": {"const": topic.type}},
        },
        "payload": {"$ref": SCHEMAS + schema},
    }


def _document(topic: Topic[Any], name: str, schema: str) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "summary": topic.doc,
        "description": "The body is the document, as JSON or MessagePack. A request may be a CloudEvents event with "
        "the document as its `data`, too.",
        "contentType": "application/json",
        "payload": {"$ref": SCHEMAS + schema},
    }


def _body_of(feature: FeatureDeclaration, verb: str) -> str:
    return f"{feature.kind.__name__ if verb in WRITES else feature.verb(verb).body.__name__}Request"


def _answer_of(feature: FeatureDeclaration, verb: str) -> str:
    own = feature.own_verbs.get(verb)
    if own is not None and own.answer is not None:
        return f"{own.answer.__name__}Answer"
    part = {"list": "List", "watch": "Watch", "status": "Status"}.get(verb, "")
    return f"{feature.kind.__name__}{part}Answer"


def _request_schemas(registry: Registry) -> dict[str, Any]:
    """Return the schemas of the requests' bodies and answers."""
    reply_to = {
        "type": "string",
        "description": "Topic of the reply, below `reply/`, for a client that has no response topic.",
    }
    version = {"type": "string", "description": "Version of the kind, for `since` of `watch`."}
    code = {"enum": list(ANSWERS)}
    texts = {each: {"type": "string"} for each in ("topic", "field", "expected", "got", "hint", "message")}
    found: dict[str, Any] = {
        "Name": {**LABEL_SCHEMA, "description": "Name of a resource."},
        "ErrorAnswer": _object("A refusal; `code` is for programs, `message` for people.", {
            "ok": {"const": False},
            "error": _object("", {"code": code, **texts, "details": {"type": "object"}}, "code"),
        }, "ok", "error"),
    }  # fmt: skip
    known = schemas(registry)
    for feature in registry.features.values():
        kind = feature.kind.__name__
        if set(WRITES) & set(feature.verb_names):
            own = {**known[kind]["properties"], "reply_to": reply_to,
                   "dry_run": {"type": "boolean", "description": "Whether to check the document alone."}}  # fmt: skip
            written = _object(f"A {kind} with the address of its reply.", own, *known[kind].get("required", ()))
            found[f"{kind}Request"] = {"title": f"{kind}Request", "anyOf": [{"$ref": SCHEMAS + kind}, written]}
        result = {"$ref": SCHEMAS + kind}
        found[f"{kind}Answer"] = _answer(kind, result)
        several = {"type": "array", "items": result}
        found[f"{kind}ListAnswer"] = _answer(f"{kind}List", several, **{"continue": _LABEL, "version": version})
        found[f"{kind}WatchAnswer"] = _answer(
            f"{kind}Watch", several, gone={"type": "array", "items": _LABEL}, version=version, more={"type": "boolean"}
        )
        if "status" in feature.verb_names:
            found[f"{kind}StatusAnswer"] = _answer(f"{kind}Status", known[kind]["properties"]["status"])
    for body in (known[model.__name__] for model in registry.bodies):
        fields = {**body.get("properties", {}), "reply_to": reply_to}
        found[f"{body['title']}Request"] = {**body, "properties": fields}
    for model in registry.answers:
        found[f"{model.__name__}Answer"] = _answer(model.__name__, {"$ref": SCHEMAS + model.__name__})
    return {name: {"title": name, **schema} for name, schema in sorted(deepcopy(found).items())}


def _answer(name: str, result: dict[str, Any], **beside: dict[str, Any]) -> dict[str, Any]:
    done = _object("", {"ok": {"const": True}, "result": result, **beside}, "ok", "result")
    return {"title": f"{name}Answer", "oneOf": [done, {"$ref": SCHEMAS + "ErrorAnswer"}]}


def _object(description: str, properties: dict[str, Any], *required: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties, "required": list(required)}
    return {"description": description, **found} if description else found
