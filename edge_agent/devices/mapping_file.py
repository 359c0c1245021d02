"""The file of a node's mapping of devices: TOML, read when the agent starts. The first entry that fits a topic decides.

    [[devices]]
    preset = "zigbee2mqtt"       # or one of the others in presets.py
    base = "zigbee2mqtt"         # where its topics begin, if not as usual

    [[devices]]
    topic = "hall/{line}/{machine}/{event...}"     # {name} is one level, {name...} one or more; + and # as in MQTT
    device = "{line}-{machine}"
    event = "{event}"            # without it: telemetry
    content-type = "text/csv"    # without it the payload decides

    [[devices]]
    topic = "hall/+/+/debug"
    skip = true                  # not journalled, not counted
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.core.errors import Refused, shorten
from heliograph.core.toml_file import read_toml
from heliograph.edge_agent.devices.mapping import TELEMETRY, DeviceMapping, Rule
from heliograph.edge_agent.devices.presets import rules_of

MAX_RULES = 256
_SECTION = "devices"
_FIELDS = ("preset", "base", "topic", "device", "event", "content-type", "skip")
_CONTENT_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,80}/[a-z0-9!#$&^_.+-]{1,80}(; ?[a-z0-9-]+=[A-Za-z0-9.-]+)?")


def read_mapping(path: Path, edge: str, root: str = DEFAULT_ROOT) -> DeviceMapping:
    """Return the mapping of a file, for an edge. Raise Refused with the field where it is none."""
    rules = read_rules(path)
    try:
        return DeviceMapping(root, edge, rules)
    except Refused as error:
        raise error.about(str(path)) from None


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Return the rules of a file. Raise Refused with the field where it is none."""
    return _parsed(read_toml(path, "a file with the mapping of devices"), str(path))


def _parsed(document: Mapping[str, Any], place: str) -> tuple[Rule, ...]:
    for section in document:
        if section != _SECTION:
            raise Refused("invalid", topic=place, field=section, expected=f"[[{_SECTION}]] alone", got=section)
    entries = document.get(_SECTION, [])
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise Refused("invalid", topic=place, field=_SECTION, expected=f"entries, each after [[{_SECTION}]]",
                      got=entries)  # fmt: skip
    rules: list[Rule] = []
    for number, entry in enumerate(entries, 1):
        try:
            rules.extend(_rules_of(entry))
        except Refused as error:
            raise Refused("invalid", topic=place, field=f"{_SECTION} {number}, {error.field}", expected=error.expected,
                          got=error.got) from None  # fmt: skip
        if len(rules) > MAX_RULES:
            raise Refused("invalid", topic=place, field=_SECTION, expected=f"at most {MAX_RULES} rules", got="more")
    return tuple(rules)


def _rules_of(entry: Mapping[str, Any]) -> tuple[Rule, ...]:
    for key, value in entry.items():
        if key not in _FIELDS:
            raise Refused("invalid", field=shorten(key), expected=f"one of {', '.join(_FIELDS)}", got=key)
        kind = bool if key == "skip" else str
        if type(value) is not kind or value == "":
            raise Refused("invalid", field=key, expected="true or false" if kind is bool else "a text", got=value)
    if "preset" in entry:
        _only(entry, "preset", "base")
        base = entry.get("base", "")
        if set(base) & set("{}+#\0") or base.endswith("/"):
            raise Refused("invalid", field="base", expected="the first levels of the topics, as zigbee2mqtt", got=base)
        return rules_of(entry["preset"], base)
    if "topic" not in entry:
        raise Refused("invalid", field="topic", expected="preset, or topic and device", got="neither")
    if entry.get("skip"):
        _only(entry, "topic", "skip")
        return (Rule(entry["topic"]),)
    if "device" not in entry:
        raise Refused("invalid", field="device", expected="the device, or skip = true", got="nothing")
    _only(entry, "topic", "device", "event", "content-type", "skip")
    kept = entry.get("content-type")
    if kept is not None and not _CONTENT_TYPE.fullmatch(kept):
        raise Refused("invalid", field="content-type", expected="a media type, as text/csv", got=kept)
    return (Rule(entry["topic"], entry["device"], entry.get("event", TELEMETRY), kept),)


def _only(entry: Mapping[str, Any], *fields: str) -> None:
    for key in entry:
        if key not in fields:
            raise Refused("invalid", field=key, expected=f"beside {fields[0]} only {', '.join(fields[1:])}", got=key)
