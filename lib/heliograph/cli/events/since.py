"""A time in the past, as people write it: ``10m``, ``1h30m``, or 2026-11-21T20:15:00Z."""

from __future__ import annotations

from datetime import datetime

from heliograph.cli.usage import misused

EXPECTED = "a duration such as 10m or 1h30m, or a past time such as 2026-11-21T20:15:00Z"


def parse_since(text: str, now: float, option: str = "--since") -> float:
    """Return seconds since 1970. Raises typer.BadParameter if the text is neither a duration nor a time."""
    from heliograph.simulations.scenario.quantities import parse_seconds

    try:
        since = datetime.fromisoformat(text).astimezone().timestamp()  # without a zone it is local time
    except (ValueError, OverflowError, OSError):
        try:
            since = now - float(parse_seconds(text))
        except ValueError:
            since = -1.0
    if not 0 <= since <= now:
        raise misused(option, expected=EXPECTED, got=text or "nothing")
    return since
