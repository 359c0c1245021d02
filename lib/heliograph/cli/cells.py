"""Cells of the tables of ``get``: pure functions from documents to text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

Document = Mapping[str, Any]
Cell = str | list[str]
"""Text, or several words with breaks allowed between them."""
NAMED = 4
"""Names in a cell before the rest is counted."""


def short_metrics(metrics: Mapping[str, Any] | None) -> list[str]:
    """Return ``accuracy=0.9712``, ``loss=0.08`` and so on."""
    return [f"{key}={value:.4g}" for key, value in (metrics or {}).items()]


def failing(document: Document) -> str:
    """Return the messages of false conditions, or of Complete alone if it is false; empty if none is."""
    found = [each for each in status_of(document).get("conditions", ()) if each.get("status") == "False"]
    end = [each for each in found if each.get("type") == "Complete"]
    return "; ".join(each.get("message") or each.get("reason", "") for each in end or found)


def age(since: str, now: float) -> str:
    """Return ``42s``, ``5m``, ``3h`` or ``12d``; empty if ``since`` is no time."""
    try:
        seconds = max(0, int(now - datetime.fromisoformat(since).timestamp()))
    except ValueError:
        return ""
    for unit, size, most in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86400}d"


def size(number: int) -> str:
    """Return a number of bytes as ``1.5 kB`` or ``100 MB``."""
    value = float(number)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def percent(share: float | None) -> str:
    """Return a share as ``25.1 %``; empty for None."""
    return f"{100 * share:.1f} %" if share is not None else ""


def latency(seconds: float | None) -> str:
    """Return seconds as ``1.2 ms``, ``35 ms`` or ``1.5 s``; empty for None."""
    if seconds is None:
        return ""
    return f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.{0 if seconds >= 0.01 else 1}f} ms"


def status_of(document: Document) -> Mapping[str, Any]:
    """Return a document's status; empty if it has none yet."""
    found: Mapping[str, Any] = document.get("status") or {}
    return found


def labels_of(document: Document) -> Mapping[str, Any]:
    """Return a document's labels; an edge's are in its spec, as its agent was started with."""
    spec: Mapping[str, Any] = document.get("spec") or {}
    found: Mapping[str, Any] = document["metadata"].get("labels") or {}
    return {**found, **spec.get("labels", {})} if document.get("kind") == "Edge" else found


def name_of(document: Document) -> str:
    """Return a document's name."""
    return str(document["metadata"]["name"])


def age_of(document: Document, now: float) -> str:
    """Return a document's age at ``now``, in seconds since 1970."""
    return age(document["metadata"].get("creationTimestamp", ""), now)


def some_of(names: Sequence[str]) -> list[str]:
    """Return the first few names, and the number of the others."""
    return [*names[:NAMED], *([f"+{len(names) - NAMED}"] if len(names) > NAMED else [])]
