"""Cells of the tables that ``get`` shows: pure translations of what documents hold into text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

Document = Mapping[str, Any]
Cell = str | list[str]
"""Text, or several words that a wide cell may break between."""
NAMED = 4
"""How many names a cell holds before it counts the rest."""


def short_metrics(metrics: Mapping[str, Any] | None) -> list[str]:
    """``accuracy=0.9712``, ``loss=0.08``."""
    return [f"{key}={value:.4g}" for key, value in (metrics or {}).items()]


def failing(document: Document) -> str:
    """What the conditions say is wrong, in one sentence; of what has ended, why; empty where nothing is."""
    found = [each for each in status_of(document).get("conditions", ()) if each.get("status") == "False"]
    end = [each for each in found if each.get("type") == "Complete"]
    return "; ".join(each.get("message") or each.get("reason", "") for each in end or found)


def age(since: str, now: float) -> str:
    """``42s``, ``5m``, ``3h`` or ``12d``; empty where ``since`` is no time."""
    try:
        seconds = max(0, int(now - datetime.fromisoformat(since).timestamp()))
    except ValueError:
        return ""
    for unit, size, most in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86400}d"


def size(number: int) -> str:
    """``1.5 kB``, ``100 MB``."""
    value = float(number)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def percent(share: float | None) -> str:
    """``25.1 %``; empty where there is none."""
    return f"{100 * share:.1f} %" if share is not None else ""


def latency(seconds: float | None) -> str:
    """``1.2 ms``, ``35 ms``, ``1.5 s``; empty where there is none."""
    if seconds is None:
        return ""
    return f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.{0 if seconds >= 0.01 else 1}f} ms"


def status_of(document: Document) -> Mapping[str, Any]:
    """A document's status; empty where it has none yet."""
    found: Mapping[str, Any] = document.get("status") or {}
    return found


def name_of(document: Document) -> str:
    """A document's own name."""
    return str(document["metadata"]["name"])


def age_of(document: Document, now: float) -> str:
    """How long ago a document was created; ``now``: seconds since 1970."""
    return age(document["metadata"].get("creationTimestamp", ""), now)


def some_of(names: Sequence[str]) -> list[str]:
    """The first few names, and how many more there are."""
    return [*names[:NAMED], *([f"+{len(names) - NAMED}"] if len(names) > NAMED else [])]
