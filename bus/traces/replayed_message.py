"""The message that a replay publishes for a recorded one: marked as replayed, with new names if wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgpack

from heliograph.bus.contract import registry
from heliograph.bus.contract.event import is_event, parse, sign_fields
from heliograph.bus.contract.lanes import REPLAYED
from heliograph.bus.traces.layout import encoding_of
from heliograph.bus.traces.recorded import Recorded
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import Refused
from heliograph.core.names import is_label

HEADERS = {REPLAYED: "1"}
"""Headers of a replayed message. The lane's headers are not sent again: they identify events that an agent forwards,
and no agent forwards this one."""
_KINDS = {"jobs": "job", "services": "service", "edges": "edge"}
"""The kind of name that ``{name}`` of a status stands for, by its resource."""
_MAX_DEPTH = 64


@cache
def renamable() -> tuple[str, ...]:
    """Return the topic parameters that can be renamed."""
    every = (name for topic in registry.declared().topics for name in topic.params)
    return tuple(dict.fromkeys(name for name in every if name not in ("id", "verb")))


@dataclass(frozen=True)
class Names:
    """New names by parameter and old name; the old name ``""`` stands for every name."""

    of: Mapping[str, Mapping[str, str]]

    @staticmethod
    def parse(texts: list[str]) -> Names:
        """Parse ``job=NEW`` and ``job=OLD:NEW``, several separated by commas. Raise Refused for any other text."""
        found: dict[str, dict[str, str]] = {}
        for text in (part for given in texts for part in given.split(",")):
            name, equals, value = text.strip().partition("=")
            old, colon, new = value.rpartition(":")
            if not equals or name not in renamable() or not is_label(new) or (colon and not is_label(old)):
                expected = f"NAME=NEW or NAME=OLD:NEW with NAME one of {', '.join(renamable())}, the others DNS labels"
                raise Refused("invalid", field="--rename", expected=expected, got=text)
            if found.setdefault(name, {}).setdefault(old, new) != new:
                raise Refused("invalid", field="--rename", expected=f"one new name for {name} {old}".strip(), got=text)
        return Names(found)

    def new(self, name: str, old: str) -> str:
        """Return the new name for ``old`` as a ``name`` parameter; ``old`` itself if it is not renamed."""
        renamed = self.of.get(name)
        return old if renamed is None else renamed.get(old, renamed.get("", old))


@dataclass(frozen=True, slots=True)
class ReplayedMessage:
    """A message to publish.

    Attributes:
        source: the original source; messages of one source keep their order.
        known: whether its topic is declared.
        lost_signature: whether it was signed and is not any more.
    """

    topic: str
    body: bytes
    source: str
    known: bool
    retain: bool
    lost_signature: bool = False


def replayed_message(recorded: Recorded, names: Names, signer: Ed25519Signer | None = None) -> ReplayedMessage:
    """Return the message that replays a recorded one.

    An event is marked as replayed in its envelope, so that its bytes change: it loses its MAC, and one that was signed
    is signed anew by ``signer``. A bare document, such as a device's, keeps its bytes unless a name in it is changed.
    """
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
        return ReplayedMessage(address, recorded.body, address, topic is not None, retain)
    event = is_event(tree)
    source = tree.get("source") if event else None
    if not event and not names.of:
        return ReplayedMessage(address, recorded.body, address, topic is not None, retain)
    if names.of:
        if event and recorded.topic != address and "resource" in params:
            _rename_document(tree.get("data"), params["name"], address.rpartition("/")[2])
        tree = _renamed_event(tree, address, names) if event else _renamed(tree, names, 0)
    if event:
        tree.pop("mac", None)
        tree["replayed"] = True
        if tree.pop("signature", None) is not None:
            tree.pop("signedby", None)
            body = msgpack.packb(tree) if signer is None else sign_fields(tree, signer)
            sender = source if isinstance(source, str) else address
            return ReplayedMessage(address, body, sender, topic is not None, retain, signer is None)
    if encoding_of(recorded.body) == "msgpack":
        body = bytes(msgpack.packb(tree))
    else:
        body = json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return ReplayedMessage(address, body, source if isinstance(source, str) else address, topic is not None, retain)


def _role(name: str, params: Mapping[str, str]) -> str:
    return _KINDS.get(params.get("resource", ""), name) if name == "name" else name


def _rename_document(document: Any, old: str, new: str) -> None:
    """Rename a resource's document, whose name is in its metadata."""
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
    """Return the tree with new names in all fields called like a renamed parameter, at any depth."""
    if depth > _MAX_DEPTH:
        return tree
    if isinstance(tree, list):
        return [_renamed(each, names, depth + 1) for each in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        key: names.new(key, value) if isinstance(value, str) and key in names.of else _renamed(value, names, depth + 1)
        for key, value in tree.items()
    }
