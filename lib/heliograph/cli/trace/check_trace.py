"""``trace check``: feed a component from a trace and compare its messages with the recorded ones."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.bus.contract import registry
from heliograph.cli.printing.output import paint, printable, say, show_table
from heliograph.cli.usage import misused
from heliograph.core.errors import HeliographError, Refused

if TYPE_CHECKING:
    from heliograph.simulations.check.compare import Difference
    from heliograph.simulations.check.findings import ReplayRun

_MAX_DIFFERENCES = 50
"""Differences shown one by one."""
_OPTIONS = {"unknown-component": "--component", "unknown-edge": "--edge", "unknown-job": "--job", "invalid": "--edge"}


def check(path: Path, component: str, edge: str | None, job: str) -> int:
    if importlib.util.find_spec("numpy") is None:
        raise HeliographError("a check needs NumPy: pip install 'heliograph[train]'")
    from heliograph.simulations.check import component_check as run

    try:
        found = run.check(path, component, edge, job)
    except Refused as error:
        if error.code in _OPTIONS and error.field in ("component", "edge", "job"):
            raise misused(_OPTIONS[error.code], expected=error.expected, got=error.got) from None
        raise
    _show(found)
    if found.equal:
        return 0
    print(f"error: {path}: {_summary(found)}", file=sys.stderr)
    return 1


def _show(found: ReplayRun) -> None:
    recorded, published = (Counter(_pattern(each.topic) for each in side) for side in (found.recorded, found.published))
    wrong = Counter(_pattern(each.topic) for each in found.differences)
    rows: list[list[str | list[str]]] = [
        [pattern, str(recorded[pattern]), str(published[pattern]), str(wrong[pattern] or "")]
        for pattern in sorted({*recorded, *published, *wrong})
    ]
    show_table(["TOPIC", "RECORDED", "PUBLISHED", "DIFFERENCES"], rows)
    for line in found.missing:
        say(paint(f"missing: {printable(line)}", "yellow"))
    for each in found.differences[:_MAX_DIFFERENCES]:
        say(paint(_line(each), "red"))
    if len(found.differences) > _MAX_DIFFERENCES:
        say(f"and {len(found.differences) - _MAX_DIFFERENCES} more differences")
    for line in found.notes:
        say(paint(f"skipped: {printable(line)}", "dim"))
    for key, count in sorted(found.signatures.items()):
        say(f"signatures: {count} by key {key}")
    say(f"{found.component}: fed {found.fed} of {found.inputs} inputs; {len(found.differences)} differences in "
        f"{len(found.recorded)} messages")  # fmt: skip


def _summary(found: ReplayRun) -> str:
    why = [f"{len(found.differences)} differences"] if found.differences else []
    if not found.complete:
        why.append(f"the {found.component} could not be fed completely ({found.fed} of {found.inputs} inputs)")
        why += found.missing[:3]
    return "; ".join(printable(each) for each in why)


def _line(difference: Difference) -> str:
    return printable(f"differs: {difference}")


def _pattern(address: str) -> str:
    topic, _ = registry.lookup(address)
    return topic.pattern if topic is not None else address
