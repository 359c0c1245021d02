"""What a recorded message becomes when it is told again: marked as replayed, and renamed where that is wished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgpack

from heliograph.bus.contract import registry
from heliograph.bus.contract.event import is_event, parse
from heliograph.bus.contract.lanes import REPLAYED
from heliograph.bus.traces.layout import encoding_of
from heliograph.bus.traces.recorded import Recorded
from heliograph.core.errors import Refused
from heliograph.core.names import is_label

HEADERS = {REPLAYED: "1"}
"""What a replayed message bears on its way. Its lane's headers are not sent again: they are how a carried event is
known, and this one was not carried."""
_KINDS = {"jobs": "job", "services": "service", "edges": "edge"}
"""``{name}`` of a status is a job's, a service's or an edge's, by its resource."""
_DEEPEST = 64


@cache
def names() -> tuple[str, ...]:
    """The words of addresses that can be renamed."""
    every = (name for topic in registry.declared().topics for name in topic.params)
    return tuple(dict.fromkeys(name for name in every if name not in ("id", "verb")))


@dataclass(frozen=True)
class Names:
    """New names: of each parameter, old to new; ``""`` stands for every old one."""

    of: Mapping[str, Mapping[str, str]]

    @staticmethod
    def parse(texts: list[str]) -> Names:
        """``job=NEW``, ``job=OLD:NEW``, several separated by commas. Raises Refused where one is not understood."""
        found: dict[str, dict[str, str]] = {}
        for text in (part for given in texts for part in given.split(",")):
            name, equals, value = text.strip().partition("=")
            old, colon, new = value.rpartition(":")
            if not equals or name not in names() or not is_label(new) or (colon and not is_label(old)):
                expected = f"NAME=NEW or NAME=OLD:NEW with NAME one of {', '.join(names())}, the others DNS labels"
                raise Refused("invalid", field="--rename", expected=expected, got=text)
            if found.setdefault(name, {}).setdefault(old, new) != new:
                raise Refused("invalid", field="--rename", expected=f"one new name for {name} {old}".strip(), got=text)
        return Names(found)

    def new(self, name: str, old: str) -> str:
        """What ``old`` is called now, as a ``name``."""
        renamed = self.of.get(name)
        return old if renamed is None else renamed.get(old, renamed.get("", old))


@dataclass(frozen=True, slots=True)
class Again:
    """A message as it is to be published.

    Attributes:
        source: who told it at first; what one source told keeps its order.
        known: its topic is declared.
    """

    topic: str
    body: bytes
    source: str
    known: bool
    retain: bool


def again(recorded: Recorded, names: Names) -> Again:
    """A recorded message as it is told again: an event says in its envelope that it is, and has lost its signature, for
    its bytes are others. What is no event (a device's bare document) keeps its bytes unless something is renamed."""
    topic, found = registry.lookup(recorded.topic)
    params = dict(found)
    address = recorded.topic
    if topic is not None and names.of:
        renamed = {name: names.new(_role(name, params), word) for name, word in params.items()}
        words = address.split("/")
        for place, word in enumerate(topic.words):
            if word.startswith("{"):
                words[place] = renamed[word[1:-1]]
        address = "/".join(words)
    retain = topic is not None and topic.retained
    try:
        tree = parse(recorded.body) if recorded.body else None
    except Refused:
        tree = None
    if not isinstance(tree, dict):
        return Again(address, recorded.body, address, topic is not None, retain)
    event = is_event(tree)
    source = tree.get("source") if event else None
    if not event and not names.of:
        return Again(address, recorded.body, address, topic is not None, retain)
    if names.of:
        if event and recorded.topic != address and "resource" in params:
            _rename_document(tree.get("data"), params["name"], address.rpartition("/")[2])
        tree = _renamed_event(tree, address, names) if event else _renamed(tree, names, 0)
    if event:
        tree.pop("mac", None)
        tree["replayed"] = True
    if encoding_of(recorded.body) == "msgpack":
        body: bytes = msgpack.packb(tree)
    else:
        body = json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return Again(address, body, source if isinstance(source, str) else address, topic is not None, retain)


def _role(name: str, params: Mapping[str, str]) -> str:
    return _KINDS.get(params.get("resource", ""), name) if name == "name" else name


def _rename_document(document: Any, old: str, new: str) -> None:
    """A resource bears its name among its metadata."""
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if isinstance(metadata, dict) and metadata.get("name") == old:
        metadata["name"] = new


def _renamed_event(tree: dict[str, Any], address: str, names: Names) -> dict[str, Any]:
    renamed = {**tree, "data": _renamed(tree.get("data"), names, 0)}
    if isinstance(tree.get("source"), str):
        edge, slash, rest = tree["source"].partition("/")
        renamed["source"] = f"{names.new('edge', edge)}{slash}{rest}"
    if "subject" in tree:
        renamed["subject"] = address
    return renamed


def _renamed(tree: Any, names: Names, depth: int) -> Any:
    """Every field that bears a parameter's name, wherever it stands."""
    if depth > _DEEPEST:
        return tree
    if isinstance(tree, list):
        return [_renamed(each, names, depth + 1) for each in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        key: names.new(key, value) if isinstance(value, str) and key in names.of else _renamed(value, names, depth + 1)
        for key, value in tree.items()
    }
