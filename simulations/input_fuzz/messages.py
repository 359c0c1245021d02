"""Hostile messages for a live cluster: what a client at the door, a device, an edge, and a raw connection may send."""

from __future__ import annotations

import base64
import json
import random  # noqa: TID251 only its type: the generator is seeded
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from heliograph.bus.contract import topics
from heliograph.bus.contract.lanes import LANE, MESSAGE_ID, NUMBER
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.topics import Topic
from heliograph.core.errors import HeliographError
from heliograph.simulations.input_fuzz.hostile_values import TEXTS
from heliograph.simulations.input_fuzz.mutate import mutate_bytes, mutate_tree
from heliograph.simulations.input_fuzz.targets.documents import event_tree
from heliograph.simulations.input_fuzz.trees import encode_tree
from heliograph.simulations.input_fuzz.valid_trees import draw_valid

Where = Literal["door", "node", "edge", "raw-door", "raw-node"]
EDGE, REPLY_TO = "EDGE", "heliograph/reply/fuzz/1"
_ON_NODE = ("event", "ack", "inference", "log")
_ODD_BYTES = (
    b"\xff", b"\xed\xa0\xbd", b"\x0b1", b"\x0c", b"\0", b"+", b"#", b"..", b"\xc0\x80", b"\x7f", b"x" * 3000, b"\x0b5 ",
)  # fmt: skip
_HEADERS: tuple[Mapping[str, str], ...] = (
    {"Status": "404"}, {"Status": "409", "Description": "Consumer Deleted"}, {"Status": "link"}, {"Nats-Rollup": "all"},
    {"Status": "forbidden"}, {LANE: "edge-1.x.0", NUMBER: "99999999999999999999"}, {LANE: "x", NUMBER: "-1"},
    {MESSAGE_ID: ""}, {"A" * 200: "b" * 2000}, {"Nats-Sequence": "x"}, {"Nats-Expected-Last-Subject-Sequence": "x"},
)  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """A message.

    Attributes:
        where: ``door`` and ``node``: over MQTT, without a login. ``edge``: over NATS, with an edge's login. ``raw-…``:
            over NATS, without a login; the topic is a subject of any bytes.
        topic: below the root; ``EDGE`` stands for the edge.
    """

    where: Where
    topic: bytes
    body: bytes
    retain: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def topic_on(self, edge: str) -> bytes:
        return self.topic.replace(EDGE.encode(), edge.encode())


def draw_message(rng: random.Random) -> Sent:
    """Draw a message."""
    where: Where = rng.choice(("door", "door", "door", "node", "node", "node", "edge", "edge", "raw-door", "raw-node"))
    if where == "door":
        return Sent(where, _request_topic(rng), _request(rng))
    if where == "node":
        topic = rng.choice([each for each in declared().topics if each.delivery in _ON_NODE])
        return Sent(where, _address(rng, topic), _event(rng, topic), retain=rng.random() < 0.1)
    if where == "edge":
        of_edge = [each for each in declared().topics if "agent" in each.publishers and "edge" in each.params]
        topic = rng.choice([topics.REPORT, topics.REPORT, *of_edge])
        headers = rng.choice(_HEADERS) if rng.random() < 0.4 else {}
        return Sent(where, _address(rng, topic), _event(rng, topic), headers=headers)
    topic = topics.REQUEST if where == "raw-door" else rng.choice((topics.TELEMETRY, topics.INFERENCE_REQUEST))
    subject = _address(rng, topic).replace(b"/", b".")
    at = rng.randrange(8, len(subject) + 1)
    return Sent(where, subject[:at] + rng.choice(_ODD_BYTES) + subject[at:], _request(rng)[:2000])


def _request_topic(rng: random.Random) -> bytes:
    plural, verbs = rng.choice([*declared().verbs.items()])
    verb = rng.choice(sorted(verbs))
    words = ["request", plural, verb]
    if rng.random() < 0.1:
        words[rng.randrange(1, 3)] = _odd_text(rng)
    return "/".join(words).encode()


def _request(rng: random.Random) -> bytes:
    name, kind = rng.choice([*declared().kinds.items()])
    whole = rng.random() < 0.7
    tree: Any = {**draw_valid(rng, kind), "kind": name} if whole else {"name": rng.choice(("m", "job-1", "edge-1"))}
    tree["reply_to"] = REPLY_TO
    if rng.random() < 0.2:
        tree = {"specversion": "1.0", "id": "1", "source": "a/b/c", "type": "x", "data": tree, "reply_to": REPLY_TO}
    return _encoded(rng, tree)


def _event(rng: random.Random, topic: Topic[Any]) -> bytes:
    event = event_tree(topic, rng)
    event["source"] = rng.choice(("edge-1/d1/1", "edge-2/d1/1", "edge-3/agent/1", "edge-1/agent/1", "x"))
    event.pop("sequence" if rng.random() < 0.7 else "subject", None)
    return _encoded(rng, event if rng.random() < 0.7 else event["data"])


def _encoded(rng: random.Random, tree: Any) -> bytes:
    form: Literal["json", "msgpack"] = rng.choice(("json", "json", "msgpack"))
    body = encode_tree(mutate_tree(rng, tree, tree) if rng.random() < 0.85 else tree, form)
    return mutate_bytes(rng, body, body) if rng.random() < 0.1 else body


def _address(rng: random.Random, topic: Topic[Any]) -> bytes:
    words = [EDGE if word == "{edge}" else rng.choice(("a", "d1", "m", "agent")) if word[0] in "{#" else word
             for word in topic.words]  # fmt: skip
    if rng.random() < 0.1:
        words[rng.randrange(1, len(words))] = _odd_text(rng)
    return "/".join(words).encode()


def _odd_text(rng: random.Random) -> str:
    return rng.choice([text for text in TEXTS if isinstance(text, str) and "\r" not in text and " " not in text])


def write(messages: Sequence[Sent], file: Path) -> Path:
    """Write messages as ``tests/data/hostile/messages.json`` has them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tree = [
        {
            "where": each.where, "topic": each.topic.decode("latin-1"), "retain": each.retain,
            "headers": dict(each.headers), "body": base64.b64encode(each.body).decode(),
        }
        for each in messages
    ]  # fmt: skip
    file.write_text(json.dumps(tree, indent=1) + "\n")
    return file


def read(file: Path) -> list[Sent]:
    """Read messages. Raise HeliographError where the file has none."""
    try:
        tree = json.loads(file.read_text())
        found = [
            Sent(each["where"], each["topic"].encode("latin-1"), base64.b64decode(each["body"]), bool(each["retain"]),
                 each.get("headers", {}))
            for each in tree
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HeliographError(f"{file}: no messages: {error}") from None
    if not found or any(each.where not in get_args(Where) for each in found):
        raise HeliographError(f"{file}: expected messages, each with where as one of {', '.join(get_args(Where))}")
    return found
