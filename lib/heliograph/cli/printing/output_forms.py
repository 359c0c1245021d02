"""The forms in which ``get`` prints resources: tables, names, JSON, YAML, and what a JSONPath makes of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heliograph.cli.cells import Document
from heliograph.cli.presentation import Columns
from heliograph.cli.printing.jsonpath import template
from heliograph.cli.printing.jsonpath_steps import path
from heliograph.cli.printing.output import printable, say, show_table
from heliograph.cli.usage import misused
from heliograph.core.errors import Refused
from heliograph.core.text import encodable, harmless
from heliograph.core.world import World

FORMS = ("table", "wide", "name", "json", "yaml", "jsonpath=TEMPLATE")
_ORDER = ("apiVersion", "kind", "metadata", "spec", "status")
_GAP = "  "


@dataclass(frozen=True)
class Form:
    """How resources are printed.

    Attributes:
        name: ``table``, ``name``, ``json``, ``yaml`` or ``jsonpath``.
        columns: the columns of a table.
        headers: whether a table names its columns.
        text: what a JSONPath makes of a document.
    """

    name: str
    columns: Columns = field(default_factory=Columns)
    headers: bool = True
    text: Callable[[Any], str] = str

    @classmethod
    def parse(cls, output: str, labels: bool = False, headers: bool = True) -> Form:
        """Read the value of ``-o``. Raises typer.BadParameter if it names no form."""
        name, equals, rest = output.partition("=")
        if name == "jsonpath" and equals:
            try:
                return cls(name, text=template(rest))
            except Refused as error:
                raise misused("--output", expected=f"a JSONPath with {error.expected}", got=error.got) from None
        if equals or name not in FORMS:
            raise misused("--output", expected=f"one of {', '.join(FORMS)}", got=output)
        if name in ("table", "wide"):
            return cls("table", Columns(wide=name == "wide", labels=labels), headers)
        return cls(name)


def sorted_by(documents: Sequence[Document], expression: str) -> list[Document]:
    """Return documents sorted by the first result of a path: those without one first, numbers before texts."""
    try:
        found = path(expression)
    except Refused as error:
        raise misused("--sort-by", expected=error.expected, got=expression) from None

    def key(document: Document) -> tuple[int, float, str]:
        results = found.of(document, document)
        if not results or results[0] is None:
            return (0, 0.0, "")
        value = results[0]
        if isinstance(value, (int, float)):
            return (1, float(value), "")
        return (2, 0.0, value) if isinstance(value, str) else (3, 0.0, json.dumps(value, sort_keys=True))

    return sorted(documents, key=key)


def show(found: Mapping[str, Sequence[Document]], form: Form, single: bool) -> None:
    """Print resources by kind; ``single`` where one was asked for by its name."""
    if form.name == "table":
        _show_tables(found, form)
        return
    if form.name == "name":
        for plural, documents in found.items():
            for each in documents:
                say(named(plural, each))
        return
    every = [each for documents in found.values() for each in documents]
    if form.name == "jsonpath":
        _write(form.text(every[0] if single else {"apiVersion": "v1", "kind": "List", "items": every}))
        return
    ordered = [in_order(each) for each in every]
    if form.name == "json":
        say(escaped(json.dumps(ordered[0] if single else ordered, indent=2, ensure_ascii=False)))
    elif ordered:
        from heliograph.cli.printing.documents import as_yaml

        say(as_yaml(ordered).rstrip("\n"))


def _show_tables(found: Mapping[str, Sequence[Document]], form: Form) -> None:
    """Print a table for each kind. Where there are several, a kind without resources is left out unless all are."""
    shown = {plural: documents for plural, documents in found.items() if documents}
    if not shown:
        print(f"there are no {' and no '.join(found)}", file=sys.stderr)
    for place, (plural, documents) in enumerate(shown.items()):
        if place:
            say("")
        columns, rows = form.columns.table(plural, documents, World().now())
        show_table(columns, rows, form.headers, framed=not form.columns.wide)


class Rows:
    """Prints the changes of resources as they come, one below the other.

    Args:
        events: whether each change says what it is: ADDED, MODIFIED or DELETED.
    """

    def __init__(self, plural: str, form: Form, events: bool) -> None:
        self._plural = plural
        self._form = form
        self._events = events
        self._widths: list[int] = []

    def show(self, event: str, document: Document) -> None:
        form = self._form
        if form.name == "table":
            self._row(event, document)
        elif event == "DELETED" and not self._events:
            return  # the document is that of the resource as it last was
        elif form.name == "name":
            say(f"{event.ljust(8)}  {named(self._plural, document)}" if self._events else named(self._plural, document))
        elif form.name == "jsonpath":
            _write(form.text({"type": event, "object": document} if self._events else document))
        else:
            tree = in_order(document)
            self._document({"type": event, "object": tree} if self._events else tree)

    def _document(self, tree: dict[str, Any]) -> None:
        if self._form.name == "json":
            say(escaped(json.dumps(tree, indent=2, ensure_ascii=False)))
        else:
            from heliograph.cli.printing.documents import as_yaml

            say(f"---\n{as_yaml([tree])}".rstrip("\n"))

    def _row(self, event: str, document: Document) -> None:
        columns, rows = self._form.columns.table(self._plural, [document], World().now())
        cells = [",".join(map(str, cell)) if isinstance(cell, list) else cell for cell in rows[0]]
        if self._events:
            columns, cells = ["EVENT", *columns], [event, *cells]
        elif event == "DELETED":
            say(f"{named(self._plural, document)} deleted")
            return
        first = not self._widths
        if first:
            self._widths = [len(each) for each in columns]
        self._widths = [max(pair) for pair in zip(self._widths, map(len, cells), strict=True)]
        if first and self._form.headers:
            self._line(columns)
        self._line([printable(cell) or "-" for cell in cells])

    def _line(self, cells: Sequence[str]) -> None:
        say(_GAP.join(cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True)).rstrip())


def named(plural: str, document: Document) -> str:
    """Return ``job/NAME``."""
    return f"{plural[:-1]}/{document['metadata']['name']}"


def in_order(document: Document) -> dict[str, Any]:
    """Return a resource with its parts in the order of Kubernetes."""
    return {key: document[key] for key in _ORDER if key in document}


def escaped(text: str) -> str:
    """Return JSON with each character that a terminal would take for a command as an escape of JSON."""
    if harmless(text) == text:
        return text
    return "".join(each if harmless(each) == each or each == "\n" else f"\\u{ord(each):04x}" for each in text)


def _write(text: str) -> None:
    """Print what a template made, without a line end of its own: as kubectl, whose templates write theirs."""
    sys.stdout.write(harmless(encodable(text)))
    sys.stdout.flush()
