"""Trees of a YAML or JSON file, with the line of each field, so that an error can name it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from heliograph.core.errors import HeliographError, Refused

DEEPEST = 100
MOST_VALUES = 1_000_000
_STEP = re.compile(r"\[(\d+)\]|[^.\[\]]+")


class Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """YAML as JSON could say it: dates stay text, ``1e-3`` is a number, nothing is binary or a set."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class Dumper(yaml.SafeDumper):
    """Quotes what ``Loader`` would not read as text."""


for _yaml in (Loader, Dumper):
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )
for _tag in ("binary", "timestamp", "set", "omap", "pairs"):
    Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", yaml.SafeLoader.construct_undefined)


def read_text(file: str, most: int | None = None) -> str:
    """A file's text (``-``: stdin's). Raises HeliographError where it cannot be read, is no UTF-8, or has more than
    ``most`` bytes."""
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
    """Each document's tree and its nodes, which know their lines."""
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
                _check(node, name, {})
                document = tree if tree is not None else loader.construct_document(node)
                if isinstance(document, list) and isinstance(node, yaml.SequenceNode):  # as ``get -o json`` shows them
                    yield from zip(document, node.value, strict=True)
                elif document is not None:
                    yield document, node
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _unreadable(error, name, "YAML", text) from None


def _check_depth(loader: type[Any], text: str) -> None:
    """The parser in C would not survive endless nesting, and says nothing."""
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise RecursionError


def _check(node: yaml.Node, name: str, counted: dict[int, int]) -> int:
    """How many values a node holds, aliases spelled out. Refuses too many, a loop, and a key that stands twice: one
    of its two values would be lost in silence."""
    if id(node) in counted:
        if not counted[id(node)]:
            raise Refused("loop", topic=f"{name}:{line_of(node)}", expected="a tree", got="an alias inside itself")
        return counted[id(node)]
    counted[id(node)] = 0
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_check(each, name, counted) for each in node.value)
    elif isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys and key.value != "<<":
                raise Refused("twice", topic=f"{name}:{line_of(key)}", field=key.value, expected="each field once",
                              got="the same field again")  # fmt: skip
            keys.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
            total += _check(value, name, counted)
    if total > MOST_VALUES:
        expected = f"at most {MOST_VALUES} values"
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
    line = min(line, text.rstrip().count("\n") + 1)  # what is missing at the end would stand in the last line
    return HeliographError(f"{name}:{line}: not {form}: {what}")


def located(error: Refused, name: str, node: yaml.Node) -> Refused:
    """The same refusal, naming the file and the line of its field instead of a topic."""
    place = f"{name}:{line_of(find(node, error.field))}"
    return Refused(error.code, topic=place, field=error.field, expected=error.expected, got=error.got, hint=error.hint)


def fields_beside(kind: type[BaseModel], field: str) -> list[str]:
    """The fields that a model has where ``field`` is none of them."""
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


def find(node: yaml.Node, field: str) -> yaml.Node:
    """The node nearest to a field's path; where the field itself is missing, what it should stand in."""
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
    """A mapping's entry; one level deeper where it is not here, as ``trainingWorkers`` may be written."""
    if not isinstance(node, yaml.MappingNode):
        return None
    inner = [each.value for _, each in node.value if isinstance(each, yaml.MappingNode)]
    for entries in (node.value, *inner):
        for name, value in entries:
            if name.value == key:
                return name, value
    return None


def line_of(node: yaml.Node) -> int:
    """The line in which a node begins, from 1."""
    return int(node.start_mark.line) + 1
