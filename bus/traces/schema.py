"""The JSON schema of each declared topic, self-contained, for traces."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.schemas import SCHEMAS, cloud_event, schemas
from heliograph.bus.contract.topics import Topic

BARE = ("request", "inference")
"""Deliveries whose messages may be events or bare documents."""


@cache
def topic_schema(topic: Topic[Any]) -> bytes:
    """Return the schema of a topic's messages: the CloudEvents envelope with the payload as its ``data``."""
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
    if topic.delivery in BARE:  # keep the attributes, optional: a viewer shows the fields that a schema names
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
    """Return the schema of a topic's wrapped messages; see ``layout``."""
    tree = json.loads(topic_schema(topic)) if topic is not None else {"title": "message"}
    definitions = tree.pop("$defs", {})
    carried = {"type": "object", "properties": {"address": {"type": "string"}, "headers": {"type": "object"}}}
    whole = {
        "$schema": tree.pop("$schema", "https://json-schema.org/draft/2020-12/schema"),
        "title": f"{tree['title']}, wrapped",
        "description": "A message wrapped with its address; every message has an address of its own.",
        "type": "object",
        "properties": {"carried": carried, "message": tree},
        "$defs": definitions,
    }
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
