"""The JSON schema of each declared topic, whole in itself, as a trace bears it."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.schemas import SCHEMAS, cloud_event, schemas
from heliograph.bus.contract.topics import Topic

BARE = ("request", "inference")
"""Deliveries whose messages may be bare documents as well as events."""


@cache
def topic_schema(topic: Topic[Any]) -> bytes:
    """What a message of that topic is: the CloudEvents envelope with the payload as its ``data``."""
    name = topic.payload.__name__
    needed: dict[str, Any] = {}

    def collect(model: str) -> None:
        if model not in needed:
            needed[model] = schemas(declared())[model]
            for part in sorted(set(re.findall(rf"'{SCHEMAS}(\w+)'", repr(needed[model])))):
                collect(part)

    collect(name)
    envelope = cloud_event()
    envelope["properties"]["data"] = {"$ref": SCHEMAS + name}
    if topic.delivery in BARE:  # the attributes stand there all the same: a viewer shows what it knows of
        del envelope["required"]
    tree = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **envelope,
        "title": topic.type,
        "description": topic.doc,
        "$defs": needed,
    }
    text = json.dumps(tree, ensure_ascii=False, separators=(",", ":")).replace(f'"{SCHEMAS}', '"#/$defs/')
    return text.encode()


@cache
def wrapped_schema(topic: Topic[Any] | None) -> bytes:
    """The same for messages that are wrapped; see ``layout``."""
    tree = json.loads(topic_schema(topic)) if topic is not None else {"title": "message"}
    definitions = tree.pop("$defs", {})
    carried = {"type": "object", "properties": {"address": {"type": "string"}, "headers": {"type": "object"}}}
    whole = {
        "$schema": tree.pop("$schema", "https://json-schema.org/draft/2020-12/schema"),
        "title": f"{tree['title']}, wrapped",
        "description": "A message with the address that it came on; each has one of its own.",
        "type": "object",
        "properties": {"carried": carried, "message": tree},
        "$defs": definitions,
    }
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
