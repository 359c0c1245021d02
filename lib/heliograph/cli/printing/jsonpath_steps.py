"""Paths of JSONPath, as kubectl has them: fields, subscripts, unions, slices, filters, and ``..``."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from heliograph.core.errors import Refused

Step = Callable[[Any, Any], Iterator[Any]]
"""A step from a value, with the root of the document, to its results."""
MOST = 4096
"""Characters of a path or a template, at most."""
_NAME = re.compile(r"(?:[\w$/-]|\\.)+")
_SLICE = re.compile(r"(-?\d*):(-?\d*)(?::(-?\d+))?")
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True)
class Path:
    """A parsed path."""

    steps: tuple[Step, ...]
    from_root: bool = False

    def of(self, value: Any, root: Any) -> list[Any]:
        """Return the results of the path from a value."""
        found = [root if self.from_root else value]
        for step in self.steps:
            found = [result for each in found for result in step(each, root)]
        return found


def path(text: str) -> Path:
    """Return the path of ``.metadata.name``, ``metadata.name`` or ``{.metadata.name}``. Raise Refused if it is none."""
    bare = text.strip()
    if bare.startswith("{") and bare.endswith("}"):
        bare = bare[1:-1].strip()
    if not bare or len(bare) > MOST:
        raise refused("a path such as .metadata.name", text)
    return parse_path(bare if bare[0] in ".[$@" else f".{bare}")


def parse_path(text: str) -> Path:
    """Return the path that a text is, from its ``.`` or ``[`` on."""
    found, rest = parse_steps(text)
    if rest.strip():
        raise refused("a path such as .metadata.name", text)
    return found


def parse_steps(text: str) -> tuple[Path, str]:
    """Return the path at the beginning of a text, and the text behind it."""
    from_root = text[:1] == "$"
    rest = text[1:] if text[:1] in ("$", "@") else text
    if not rest.startswith((".", "[")) and rest == text:
        raise refused("a path such as .metadata.name", text)
    steps: list[Step] = []
    while rest:
        if rest.startswith(".."):
            steps.append(_descend)
            rest = rest[2:] if rest[2:3] in ("", "[") else f".{rest[2:]}"
        elif rest.startswith(".*"):
            steps.append(_every)
            rest = rest[2:]
        elif rest.startswith("["):
            end = closing_bracket(rest, 0, "[", "]")
            steps.append(_subscript(rest[1:end].strip()))
            rest = rest[end + 1 :]
        elif rest[0] == ".":
            name = _NAME.match(rest, 1)
            if name is None:
                if rest == "." and not steps:  # the document itself
                    return Path((), from_root), ""
                raise refused("a name behind each '.'", text)
            steps.append(_field(re.sub(r"\\(.)", r"\1", name[0])))
            rest = rest[name.end() :]
        else:
            break
    return Path(tuple(steps), from_root), rest


def closing_bracket(text: str, at: int, opening: str, closing: str) -> int:
    """Return the place of the bracket that closes the one at ``at``; brackets in quotes do not count."""
    depth, quote = 0, ""
    place = at
    while place < len(text):
        each = text[place]
        if quote:
            if each == "\\":
                place += 1
            elif each == quote:
                quote = ""
        elif each in "'\"":
            quote = each
        elif each == opening:
            depth += 1
        elif each == closing:
            depth -= 1
            if not depth:
                return place
        place += 1
    raise refused(f"a '{closing}' for each '{opening}'", text)


def end_of_quoted(text: str) -> int:
    """Return the place behind the quoted text with which a text begins."""
    place = 1
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == text[0]:
            return place + 1
        place += 1
    raise refused(f"a closing {text[0]}", text)


def unquoted(text: str) -> str:
    """Return what stands in quotes, with its escapes resolved."""
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text[1:-1])


def refused(expected: str, got: object) -> Refused:
    """Return the refusal of a text that is no path or template."""
    return Refused("invalid", field="JSONPath", expected=expected, got=got)


def _subscript(text: str) -> Step:
    """Return the step of what stands in brackets."""
    if text == "*":
        return _every
    if text.startswith("?(") and text.endswith(")"):
        return _filter(text[2:-1].strip())
    options = _split(text)
    if not all(options):
        raise refused("a number, a slice, a name in quotes, * or ?(…) in brackets", f"[{text}]")
    steps = [_option(each) for each in options]
    return lambda value, root: (result for step in steps for result in step(value, root))


def _split(text: str) -> list[str]:
    """Split a union at its commas; those in quotes stay."""
    found, begin, quote = [], 0, ""
    for place, each in enumerate(text):
        if quote:
            quote = "" if each == quote else quote
        elif each in "'\"":
            quote = each
        elif each == ",":
            found.append(text[begin:place].strip())
            begin = place + 1
    return [*found, text[begin:].strip()]


def _option(text: str) -> Step:
    if text[0] in "'\"":
        if end_of_quoted(text) != len(text):
            raise refused("a name in quotes", text)
        inner = parse_path(f".{text[1:-1]}")  # as in kubectl: dots are steps unless a backslash stands before them
        return lambda value, root: iter(inner.of(value, root))
    if re.fullmatch(r"-?\d{1,9}", text):
        number = int(text)
        return lambda value, root: iter(value[number : number + 1 or None]) if _is_list(value) else iter(())
    if found := _SLICE.fullmatch(text):
        begin, end, step = (int(each) if each else None for each in found.groups())
        if step == 0:
            raise refused("a slice whose step is not 0", text)
        return lambda value, root: iter(value[begin:end:step]) if _is_list(value) else iter(())
    raise refused("a number, a slice, a name in quotes, * or ?(…) in brackets", f"[{text}]")


def _filter(text: str) -> Step:
    """Return the step to the entries for which ``left operator right`` holds, or ``left`` alone is there."""
    left, rest = _operand(text)
    rest = rest.strip()
    if not rest:
        return lambda value, root: (each for each in _entries(value) if left(each, root))
    sign = next((each for each in _OPERATORS if rest.startswith(each)), None)
    if sign is None:
        raise refused(f"one of {' '.join(_OPERATORS)} in a filter", text)
    right, behind = _operand(rest[len(sign) :].strip())
    if behind.strip():
        raise refused("one comparison in a filter", text)
    holds = _OPERATORS[sign]

    def step(value: Any, root: Any) -> Iterator[Any]:
        for each in _entries(value):
            ours, theirs = left(each, root), right(each, root)
            if ours and theirs and _compares(holds, ours[0], theirs[0]):
                yield each

    return step


def _compares(holds: Callable[[Any, Any], Any], ours: Any, theirs: Any) -> bool:
    try:
        return bool(holds(ours, theirs))
    except TypeError:  # values of two types have no order
        return False


def _operand(text: str) -> tuple[Callable[[Any, Any], list[Any]], str]:
    """Return the function that gives an operand's values, and the text behind it."""
    if text[:1] in ("@", "$", "."):
        found, rest = parse_steps(text)
        return found.of, rest
    if text[:1] in ("'", '"'):
        end = end_of_quoted(text)
        value: Any = unquoted(text[:end])
        return (lambda each, root: [value]), text[end:]
    literal = re.match(r"[\w.+-]+", text)
    if literal is None:
        raise refused("@.field, a number or a text in quotes in a filter", text)
    try:
        value = json.loads(literal[0])
    except ValueError:
        raise refused("a number, true, false or a text in quotes in a filter", literal[0]) from None
    return (lambda each, root: [value]), text[literal.end() :]


def _field(name: str) -> Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        if isinstance(value, Mapping) and name in value:
            yield value[name]

    return step


def _every(value: Any, root: Any) -> Iterator[Any]:
    yield from _entries(value)


def _descend(value: Any, root: Any) -> Iterator[Any]:
    yield value
    for each in _entries(value):
        yield from _descend(each, root)


def _entries(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif _is_list(value):
        yield from value


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))
