"""Events, payloads, resources and reports: all that arrives as JSON or MessagePack."""

from __future__ import annotations

import json
import random  # noqa: TID251 only its type: the generator is seeded
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heliograph.bus.contract import close_record
from heliograph.bus.contract.event import Event, decode, encode, from_tree, is_event, parse
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.payloads.base import Anything
from heliograph.bus.contract.registry import declared, parse_resource
from heliograph.bus.contract.topics import Topic
from heliograph.bus.reply import reply_in_bytes
from heliograph.coordinator.api.status_board import public_document
from heliograph.core.errors import HeliographError, Refused
from heliograph.simulations.input_fuzz.mutate import mutate_bytes, mutate_tree
from heliograph.simulations.input_fuzz.target import Target
from heliograph.simulations.input_fuzz.trees import Form, encode_tree
from heliograph.simulations.input_fuzz.valid_trees import draw_valid

_FORMS: tuple[Form, ...] = ("json", "msgpack")
Tree = Callable[[random.Random], Any]


def forms(tree: Tree) -> tuple[Callable[[random.Random], bytes], Callable[[random.Random], bytes]]:
    """Return how a document is drawn, valid and mutated, in either encoding."""

    def form(rng: random.Random) -> Form:
        return rng.choice(("json", "msgpack"))

    def valid(rng: random.Random) -> bytes:
        return encode_tree(tree(rng), form(rng))

    def mutated(rng: random.Random) -> bytes:
        body = encode_tree(mutate_tree(rng, tree(rng), tree(rng)), form(rng))
        return mutate_bytes(rng, body, valid(rng)) if rng.random() < 0.15 else body

    return valid, mutated


def event_tree(topic: Topic[Any], rng: random.Random) -> dict[str, Any]:
    """Return the tree of a valid event of a topic."""
    return {
        "specversion": "1.0", "id": "1", "source": "edge-1/w/1", "type": topic.type, "time": "2026-01-01T00:00:00Z",
        "subject": topic.pattern, "sequence": rng.randint(1, 9), "data": draw_valid(rng, topic.payload),
    }  # fmt: skip


def _event(rng: random.Random) -> dict[str, Any]:
    return event_tree(rng.choice(declared().topics), rng)


def _read_event(body: bytes, scratch: Path) -> None:
    """Read an event of any topic; whatever is accepted can be sent on and read again."""
    reply_in_bytes(body, "heliograph")
    event = decode(body, "event/x")
    topics = [topic for topic in declared().topics if topic.type == event.type]
    for topic in topics:
        payload = topic.validate(event.data, topic.pattern)
        for form in _FORMS if topic.payload is not Anything else _FORMS[1:]:  # an application may send bytes and NaN
            data = payload.model_dump(mode="json" if form == "json" else "python", exclude_none=True)
            sent = encode(Event(event.id, event.source, event.type, data), form)
            topic.validate(decode(sent, topic.pattern).data, topic.pattern)


def _resource(rng: random.Random) -> dict[str, Any]:
    name, kind = rng.choice([*declared().kinds.items()])
    tree: dict[str, Any] = draw_valid(rng, kind)
    tree["kind"] = name
    if rng.random() < 0.5:
        tree.pop("status", None)
    return tree


def _read_resource(body: bytes, scratch: Path) -> None:
    """Read a resource; whatever is accepted can be stored, read again, shown, and answered as JSON."""
    tree = parse(body, "request/x/create")
    found = parse_resource(from_tree(tree, "x").data if is_event(tree) else tree, "request/x/create")
    stored = found.model_dump_json(by_alias=True, exclude_none=True).encode()
    try:
        again = parse_resource(parse(stored, "stored"), "stored")
    except HeliographError as error:
        raise AssertionError(f"stored, it cannot be read again: {error}") from None
    assert again == found, "stored, it is read as something else"
    shown = public_document(found)
    json.dumps({"ok": True, "result": shown}, allow_nan=False).encode()
    decode(encode(Event("1", "a/b/c", "heliograph.status.v1", shown), "json"), "status/x/y")


def _close_record(rng: random.Random) -> bytes:
    return encode_tree(draw_valid(rng, Aggregation), "json")


def _read_close_record(body: bytes, scratch: Path) -> None:
    found = close_record.load(body)
    kept = close_record.KeptModels()
    kept.add(found)
    kept.end()
    assert close_record.load(close_record.dump(found)) == found


def _draw_close_record(rng: random.Random) -> bytes:
    return encode_tree(mutate_tree(rng, draw_valid(rng, Aggregation), draw_valid(rng, Aggregation)), "json")


def _read_refusal(body: bytes, scratch: Path) -> None:
    """Make a refusal about any bytes and text: it can be sent as JSON."""
    text = body.decode("utf-8", "surrogatepass" if len(body) % 2 else "replace")
    for got in (body, text, [text] * 3, {text: body}):
        json.dumps(Refused("x", topic=text, field=text, expected=text, got=got, hint=text).as_dict()).encode()


_EVENT, _RESOURCE = forms(_event), forms(_resource)
TARGETS = (
    Target("event", _EVENT[0], _read_event, _EVENT[1]),
    Target("resource", _RESOURCE[0], _read_resource, _RESOURCE[1]),
    Target("close-record", _close_record, _read_close_record, _draw_close_record),
)
