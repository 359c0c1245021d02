"""The fields of a Sedna document: what is taken of them becomes ours, and the rest is reported with its path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from heliograph.core.errors import Refused
from heliograph.core.names import is_label, join_labels
from heliograph.sedna.values import typed

NO_COUNTERPART = "has no counterpart"


@dataclass(frozen=True)
class Finding:
    """A field that is not in our documents, or differs there.

    Attributes:
        what: ``dropped`` or ``changed``.
        path: kind and name of Sedna's document, and the field's path in it.
        why: the reason, and where there is one the next step.
    """

    what: Literal["dropped", "changed"]
    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.path}: {self.why}"


@dataclass
class Fields:
    """A mapping of a document, at its path. Whatever is taken counts as converted.

    Attributes:
        findings: those of the whole document, which its parts share.
    """

    tree: Mapping[str, Any]
    path: str
    document: str
    findings: list[Finding]
    _taken: set[str] = field(default_factory=set)

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def take(self, name: str) -> Any:
        """Return a field's value; None where it is missing."""
        self._taken.add(name)
        return self.tree.get(name)

    def text(self, name: str) -> str:
        """Return a field's text; empty where it is missing. Raise Refused for another type."""
        value = self.take(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise Refused("invalid", field=self.at(name), expected="text", got=value, hint="Quote it.")
        return value

    def number(self, name: str) -> int | float | None:
        """Return a field's number, also where it is quoted. Raise Refused for anything else."""
        given = self.take(name)
        value = typed(given)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise Refused("invalid", field=self.at(name), expected="a number", got=given)

    def words(self, name: str) -> list[str]:
        """Return a list of words; an empty one where it is missing. Raise Refused for anything else."""
        value = self.take(name)
        if not isinstance(value, list | None) or any(isinstance(each, list | dict) for each in value or ()):
            raise Refused("invalid", field=self.at(name), expected="a list of words", got=value)
        return [str(each) for each in value or ()]

    def part(self, name: str) -> Fields:
        """Return a mapping below; an empty one where it is missing. Raise Refused for another type."""
        value = self.take(name)
        if not isinstance(value, Mapping | None):
            raise Refused("invalid", field=self.at(name), expected="a mapping", got=value)
        return Fields(value or {}, self.at(name), self.document, self.findings)

    def parts(self, name: str) -> list[Fields]:
        """Return the mappings of a list. Raise Refused for another type."""
        value = self.take(name)
        if not isinstance(value, list | None) or any(not isinstance(each, Mapping) for each in value or ()):
            raise Refused("invalid", field=self.at(name), expected="a list of mappings", got=value)
        return [Fields(each, f"{self.at(name)}[{number}]", self.document, self.findings)
                for number, each in enumerate(value or ())]  # fmt: skip

    def label(self, name: str) -> str:
        """Return a field's name as a DNS label, as our names are; empty where it is missing."""
        text = self.text(name)
        found = as_label(text)
        if found != text:
            self.changed(name, f"a name is a DNS label: {found} in place of {text}")
        return found

    def reference(self, name: str) -> str:
        """Return the name in a reference to another document; empty where there is none."""
        part = self.part(name)
        found = part.label("name")
        part.drop_rest()
        return found

    def drop(self, why: str, *names: str) -> None:
        """Report these fields, as far as they are there, as dropped."""
        for name in names:
            if self.take(name) is not None:
                self.note_dropped(self.at(name), why)

    def changed(self, name: str, why: str) -> None:
        self.note_changed(self.at(name), why)

    def is_taken(self, name: str) -> bool:
        return name in self._taken

    def note_dropped(self, path: str, why: str) -> None:
        """Report as dropped what a part at that path of the document says."""
        self.findings.append(Finding("dropped", f"{self.document} {path}", why))

    def note_changed(self, path: str, why: str) -> None:
        """Report as changed what a part at that path of the document says; without a path the document itself."""
        self.findings.append(Finding("changed", f"{self.document} {path}".rstrip(), why))

    def drop_rest(self, why: str = NO_COUNTERPART) -> None:
        """Report all that was not taken."""
        self.drop(why, *(name for name in self.tree if name not in self._taken))


def as_label(text: str) -> str:
    """Return a name of Kubernetes as a DNS label: it may have dots and be longer. Raise Refused where none is left."""
    found = "".join(each if each.isascii() and each.isalnum() else "-" for each in text.lower()).strip("-")
    found = join_labels(found) if found else ""
    if text and not is_label(found):
        raise Refused("invalid", field="name", expected="a name with letters or digits", got=text)
    return found
