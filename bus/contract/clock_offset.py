"""How far the clock of an event's node was off when it was journalled: in a header, never in the event's bytes.

CloudEvents asks intermediaries to leave an event as it is, and signed events cannot be changed. So the event's ``time``
stays what its producer wrote, and who forwards it says what has become known since.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

CLOCK_OFFSET = "Heliograph-Clock-Offset"
"""Seconds by which the node's clock was set since the event was journalled: what to add to a time that it gave."""


def clock_offset_header(seconds: float) -> dict[str, str]:
    """Return the header of an event whose node's clock has been set by so many seconds since."""
    return {CLOCK_OFFSET: f"{seconds:+.3f}"}


def clock_offset(headers: Mapping[str, str]) -> float:
    """Return the seconds to add to a time of the node's clock; 0 where the header says none, or is unreadable."""
    try:
        found = float(headers.get(CLOCK_OFFSET, "0"))
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0


def corrected(time: str, headers: Mapping[str, str]) -> str:
    """Return an event's time, RFC 3339, as the node's clock would have given it had it been right; unchanged where
    nothing is known of it, or it is no time."""
    if not (offset := clock_offset(headers)):
        return time
    try:
        moved = datetime.fromisoformat(time) + timedelta(seconds=offset)
    except (ValueError, OverflowError):
        return time
    return moved.isoformat().replace("+00:00", "Z")
