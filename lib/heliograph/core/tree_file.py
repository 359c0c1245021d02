"""Documents of a YAML or JSON file with the line of each field, so that an error can name the line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from heliograph.core.document_bounds import MAX_DEPTH
from heliograph.core.document_values import check_values
from heliograph.core.errors import HeliographError, Refused

MAX_VALUES = 1_000_000
_STEP = re.compile(r"\[(\d+)\]|[^.\[\]]+")


class Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """YAML limited to JSON's types: dates stay text, ``1e-3`` is a number, binary and sets are refused."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class Dumper(yaml.SafeDumper):
    """A dumper that quotes text which ``Loader`` would read as another type."""


for _yaml in (Loader, Dumper):
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )
for _tag in ("binary", "timestamp", "set", "omap", "pairs"):
    Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", yaml.SafeLoader.construct_undefined)


def read_text(file: str, most: int | None = None) -> str:
    """Return a file's text; ``-`` reads stdin.

    Raise HeliographError if the file cannot be read, is no UTF-8, or has more than ``most`` bytes.
    """
    name = "stdin" if file == "-" else file
    try:
        if file == "-":
            raw = sys.stdin.buffer.read()
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(-1 if most is None else most + 1)
        if most is not None and len(raw) > most:
            raise Refused("too-large", topic=name, expected=f"at most {most} bytes", got="more")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise HeliographError(f"cannot read {name}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise Refused("not-text", topic=f"{name}:{line}", expected="text in UTF-8", got="other bytes") from None


def parse(text: str, name: str) -> Iterator[tuple[Any, yaml.Node]]:
    """Yield each document as plain values, with its YAML node, which knows the lines."""
    is_json = name.endswith(".json")
    tree = None
    if is_json or text.lstrip().startswith(("{", "[")):
        try:
            tree = json.loads(text)
            text = text.replace("\t", " ")  # YAML indents with spaces only; JSON has no tab inside a string
        except (ValueError, RecursionError) as error:
            if is_json:
                raise _unreadable(error, name, "JSON", text) from None
    try:
        _check_depth(Loader, text)
        loader = Loader(text)
        try:
            while loader.check_node():
                node = loader.get_node()
                _count_values(node, name, {})
                document = tree if tree is not None else loader.construct_document(node)
                try:
                    check_values(document, name)
                except Refused as error:
                    raise refusal_at_line(error, name, node) from None
                if isinstance(document, list) and isinstance(node, yaml.SequenceNode):  # as ``get -o json`` shows them
                    yield from zip(document, node.value, strict=True)
                elif document is not None:
                    yield document, node
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _unreadable(error, name, "YAML", text) from None


def _check_depth(loader: type[Any], text: str) -> None:
    """Raise RecursionError for deep nesting, which would crash the parser in C without a message."""
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RecursionError


def _count_values(node: yaml.Node, name: str, counted: dict[int, int]) -> int:
    """Return the number of values in a node with aliases expanded.

    Raise Refused for too many values, for a loop, and for a repeated key, since one of its values would be lost.
    """
    if id(node) in counted:
        if not counted[id(node)]:
            raise Refused("loop", topic=f"{name}:{line_of(node)}", expected="a tree", got="an alias inside itself")
        return counted[id(node)]
    counted[id(node)] = 0
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_count_values(each, name, counted) for each in node.value)
    elif isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys and key.value != "<<":
                raise Refused("twice", topic=f"{name}:{line_of(key)}", field=key.value, expected="each field once",
                              got="the same field again")  # fmt: skip
            keys.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
            total += _count_values(value, name, counted)
    if total > MAX_VALUES:
        expected = f"at most {MAX_VALUES} values"
        raise Refused("too-large", topic=f"{name}:{line_of(node)}", expected=expected, got="more")
    counted[id(node)] = total
    return total


def _unreadable(error: Exception, name: str, form: str, text: str) -> HeliographError:
    line = 1
    what = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
    if isinstance(error, json.JSONDecodeError):
        line, what = error.lineno, error.msg
    elif isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        line, what = error.problem_mark.line + 1, error.problem or what
    line = min(line, text.rstrip().count("\n") + 1)  # name the last line for a document that ends too early
    return HeliographError(f"{name}:{line}: not {form}: {what}")


def refusal_at_line(error: Refused, name: str, node: yaml.Node) -> Refused:
    """Return the same refusal with the file and the line of its field in place of the topic."""
    place = f"{name}:{line_of(node_at(node, error.field))}"
    return Refused(error.code, topic=place, field=error.field, expected=error.expected, got=error.got, hint=error.hint)


def known_fields(kind: type[BaseModel], field: str) -> list[str]:
    """Return the fields that a model declares at the place of the unknown field ``field``."""
    schema = kind.model_json_schema()
    part: dict[str, Any] = schema
    *way, _ = _STEP.finditer(field)
    for step in [*way, None]:
        part = next((each for each in part.get("anyOf", ()) if each.get("type") != "null"), part)
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
        if step is not None:
            part = part["items"] if step.group(1) is not None else part["properties"][step.group()]
    return list(part["properties"])


def node_at(node: yaml.Node, field: str) -> yaml.Node:
    """Return the node at a field's path, or its nearest parent where the field is missing."""
    for step in _STEP.finditer(field):
        number = step.group(1)
        if number is not None and isinstance(node, yaml.SequenceNode) and int(number) < len(node.value):
            node = node.value[int(number)]
            continue
        entry = _entry(node, step.group())
        if entry is None:
            break
        node = entry[1] if step.end() < len(field) else entry[0]
    return node


def _entry(node: yaml.Node, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    """Return a mapping's entry, searched one level deeper if missing here: ``trainingWorkers`` may stand there."""
    if not isinstance(node, yaml.MappingNode):
        return None
    inner = [each.value for _, each in node.value if isinstance(each, yaml.MappingNode)]
    for entries in (node.value, *inner):
        for name, value in entries:
            if name.value == key:
                return name, value
    return None


def line_of(node: yaml.Node) -> int:
    """Return the line in which a node begins, from 1."""
    return int(node.start_mark.line) + 1
