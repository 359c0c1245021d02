"""The lines of ``describe``: a pure function of a document and its events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from heliograph.cli.cells import age, age_of, size
from heliograph.cli.printing.output import STYLES, paint, printable

if TYPE_CHECKING:
    from heliograph.cli.events.happened import Happened

NEWEST = 10
"""Entries of a list that are shown, the last ones: rounds and versions are oldest first."""
ENTRIES = 50
"""Entries of a mapping that are shown."""
LONGEST = 300
"""Characters of a text that are shown."""
_INDENT = "  "
_METADATA = {"uid": "UID", "generation": "Generation", "resourceVersion": "Resource version"}
_WIDTH = 18


def lines_of(document: Mapping[str, Any], events: Sequence[Happened] | None, now: float) -> Iterator[str]:
    """Yield the description of a resource. ``now`` is in seconds since 1970; without ``events`` none are shown."""
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    yield _head("Name", paint(printable(metadata.get("name", "?")), "bold"))
    yield _head("Kind", printable(document.get("kind", "?")))
    if created := metadata.get("creationTimestamp"):
        by = f", by {metadata['createdBy']}" if metadata.get("createdBy") else ""
        yield _head("Created", printable(f"{created} ({age_of(document, now)} ago{by})"))
    for key, title in (("labels", "Labels"), ("annotations", "Annotations")):
        found = metadata.get(key)
        pairs = [f"{name}={value}" for name, value in found.items()] if isinstance(found, Mapping) else []
        for number, pair in enumerate(pairs or ["<none>"]):
            yield _head("" if number else title, printable(pair)[:LONGEST])
    for key, title in _METADATA.items():
        if metadata.get(key):
            yield _head(title, printable(metadata[key]))
    status = document.get("status")
    status = status if isinstance(status, Mapping) else {}
    yield from _section("Spec", document.get("spec"))
    yield from _section("Status", {key: value for key, value in status.items() if key != "conditions"})
    yield from _conditions(status.get("conditions"), now)
    if events is not None:
        yield from _events(events)


def _head(title: str, text: str) -> str:
    return f"{(title + ':' if title else '').ljust(_WIDTH)}{text}"


def _section(title: str, tree: Any) -> Iterator[str]:
    lines = [*_tree(tree, _INDENT)] if tree else []
    yield paint(f"{title}:", "bold") if lines else _head(title, "<none>")
    yield from lines


def _tree(tree: Any, indent: str) -> Iterator[str]:
    """Yield a tree like YAML, with the field names of the document."""
    if isinstance(tree, Mapping):
        for number, (key, value) in enumerate(tree.items()):
            if number == ENTRIES:
                yield f"{indent}… and {len(tree) - ENTRIES} more"
                return
            yield from _entry(f"{indent}{printable(key)}:", value, indent + _INDENT)
    else:
        hidden = max(0, len(tree) - NEWEST)
        if hidden:
            yield f"{indent}… {hidden} before these"
        for each in tree[hidden:]:
            if isinstance(each, Mapping) and each:
                first, *rest = _tree(each, indent + _INDENT)
                yield f"{indent}- {first.strip()}"
                yield from rest
            else:
                yield from _entry(f"{indent}-", each, indent + _INDENT)


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, (Mapping, list)) and value:
        yield head
        yield from _tree(value, indent)
    else:
        yield f"{head} {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        if len(value) > LONGEST:
            return f"{printable(value[:60])}… ({size(len(value))})"
        text = printable(value)
        return paint(text, STYLES.get(text, "")) if text else '""'
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (Mapping, list)):
        return "{}" if isinstance(value, Mapping) else "[]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _conditions(conditions: Any, now: float) -> Iterator[str]:
    found = [each for each in conditions if isinstance(each, Mapping)] if isinstance(conditions, list) else []
    if not found:
        return
    yield paint("Conditions:", "bold")
    rows = [("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE")]
    rows += [
        (str(each.get("type", "")), str(each.get("status", "")), str(each.get("reason", "")),
         age(str(each.get("lastTransitionTime", "")), now), str(each.get("message", "")))
        for each in found
    ]  # fmt: skip
    yield from _aligned([tuple(printable(cell) for cell in row) for row in rows])


def _events(events: Sequence[Happened]) -> Iterator[str]:
    from heliograph.cli.events.happened import line_of

    if not events:
        yield _head("Events", "<none in the last hour>")
        return
    yield paint("Events:", "bold")
    for each in events:
        yield _INDENT + line_of(each)


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield (_INDENT + _INDENT.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
