"""What of a watched resource has been told already, so that each document tells what is new."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from heliograph.cli.output import paint, printable


class Progress(ABC):
    """What of one resource has been told."""

    kind: ClassVar[str]
    """As it is called before its name: ``job``."""
    ends: ClassVar[Mapping[str, int]] = {}
    """The phases that end it, with the exit code that says so."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.uid = ""
        self.phase = ""
        self.deleted = False
        """Another resource bears the name now."""
        self._conditions: dict[str, tuple[str, ...]] = {}

    @property
    def title(self) -> str:
        return f"{self.kind}/{self.name}"

    def lines(self, document: Mapping[str, Any]) -> Iterator[str]:
        """What this document says that has not been told."""
        uid = document["metadata"].get("uid", "")
        self.deleted = self.uid not in ("", uid)
        if self.deleted:
            return
        self.uid = uid
        phase, before = document.get("status", {}).get("phase", ""), self.phase
        self.phase = phase
        yield from self._news(document, before)

    @abstractmethod
    def _news(self, document: Mapping[str, Any], before: str) -> Iterator[str]:
        """What is new of it, whose phase was ``before``."""

    def _changed_conditions(self, status: Mapping[str, Any]) -> Iterator[str]:
        for each in status.get("conditions", ()):
            said = (each["status"], each["reason"], each.get("message", ""))
            before = self._conditions.get(each["type"])
            self._conditions[each["type"]] = said
            # what is well from the start goes without saying, and the last line says what Complete does
            if said != before and (before or each["status"] != "True") and each["type"] != "Complete":
                style = "" if each["status"] == "True" else "yellow"
                message = f": {each['message']}" if each.get("message") else ""
                yield paint(printable(f"{each['type']}={each['status']} {each['reason']}{message}"), style)
