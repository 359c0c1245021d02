"""The parts of a watched resource that have been shown, so that each document adds only its changes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from heliograph.cli.printing.output import STYLES, paint, printable

EXIT_CODES = {"Failed": 1, "Stopped": 2}
"""Exit codes of ``watch`` by the phase in which a resource ended; any other phase is a success."""


class Progress:
    """The shown phase and conditions of one resource. A feature that shows more overrides ``_news``.

    Args:
        kind: the kind in ``kind/name``, ``job`` for example.
        name: the resource's name.
        ended: the final phases.
    """

    def __init__(self, kind: str, name: str, ended: Collection[str]) -> None:
        self.title = f"{kind}/{name}"
        self.uid = ""
        self.phase = ""
        self.deleted = False
        """True if another resource has the name now."""
        self._ended = ended
        self._conditions: dict[str, tuple[str, ...]] = {}

    @property
    def ended(self) -> bool:
        return self.phase in self._ended and not self.deleted

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.phase, 0)

    def lines(self, document: Mapping[str, Any]) -> Iterator[str]:
        """Yield a line for each change in a document."""
        uid = document["metadata"].get("uid", "")
        self.deleted = self.uid not in ("", uid)
        if self.deleted:
            return
        self.uid = uid
        phase, before = document.get("status", {}).get("phase", ""), self.phase
        self.phase = phase
        yield from self._news(document, before)

    def _news(self, document: Mapping[str, Any], before: str) -> Iterator[str]:
        """Yield a line for each change; ``before`` is the previous phase."""
        if self.phase != before:
            yield paint(f"{self.title} {self.phase}", STYLES.get(self.phase, "bold"))
        yield from self._changed_conditions(document.get("status", {}))

    def _changed_conditions(self, status: Mapping[str, Any]) -> Iterator[str]:
        for each in status.get("conditions", ()):
            condition = (each["status"], each["reason"], each.get("message", ""))
            before = self._conditions.get(each["type"])
            self._conditions[each["type"]] = condition
            # skip conditions that are true from the start, and Complete, which the last line reports
            if condition != before and (before or each["status"] != "True") and each["type"] != "Complete":
                style = "" if each["status"] == "True" else "yellow"
                message = f": {each['message']}" if each.get("message") else ""
                yield paint(printable(f"{each['type']}={each['status']} {each['reason']}{message}"), style)
