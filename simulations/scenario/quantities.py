"""Durations and sizes in people's notation (``7d``, ``1h30m``, ``250 kB``), and ranges to draw from."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"b": 1, "kb": 1000, "mb": 1_000_000, "gb": 1_000_000_000}
_DURATION = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:ms|[smhd]))+")
_PIECE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhd])")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kKMG]?B)(?:/s)?")


def parse_seconds(value: Any) -> Any:
    """Return the seconds of ``7d``, ``1h30m``, ``250ms`` or a number. Raises ValueError if the text is no duration."""
    if not isinstance(value, str):
        return _number(value)
    if _DURATION.fullmatch(value) is None:
        raise ValueError("expected a duration, as in 7d, 1h30m, 45s or 250ms, or a number of seconds")
    total = sum(float(number) * _SECONDS[unit] for number, unit in _PIECE.findall(value))
    return -total if value.startswith("-") else total


def parse_bytes(value: Any) -> Any:
    """Return the bytes of ``250 kB``, ``2MB/s`` or a number. Raises ValueError if the text is no size."""
    if not isinstance(value, str):
        return _number(value)
    if (found := _SIZE.fullmatch(value)) is None:
        raise ValueError("expected a size, as in 250 kB or 2 MB, or a number of bytes")
    return float(found[1]) * _BYTES[found[2].lower()]


def duration_text(duration: float) -> str:
    """Format seconds in their largest two units: ``6d 4h``, ``2m 5s``, ``0.25s``."""
    if duration < 60:
        return f"{duration:.3g}s"
    whole = round(duration)
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if count := whole // length:
            parts.append(f"{count}{unit}")
        whole %= length
    return " ".join(parts[:2])


def draw_from(span: tuple[float, float], uniform: Callable[[float, float], float]) -> float:
    """Draw a value from a range. A range of one value needs no draw, and the generator stays unchanged."""
    low, high = span
    return low if low == high else uniform(low, high)


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("expected a number, or text with a unit")
    return value


def _span(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def between(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return (read(value),) * 2
        if len(value) != 2:
            raise ValueError("expected one value, or two values to draw between")
        low, high = map(read, value)
        if low > high:
            raise ValueError("expected the lower value first")
        return low, high

    return between


Duration = Annotated[float, BeforeValidator(parse_seconds), Field(ge=0, le=366 * 86400)]
Offset = Annotated[float, BeforeValidator(parse_seconds), Field(ge=-366 * 86400, le=366 * 86400)]
"""Seconds, also negative."""
_Latency = Annotated[float, Field(ge=0, le=600)]
_Bandwidth = Annotated[float, Field(ge=0, le=1e12)]
_Loss = Annotated[float, Field(ge=0, le=0.5)]
_Speed = Annotated[float, Field(gt=0, le=1000)]
Latencies = Annotated[tuple[_Latency, _Latency], BeforeValidator(_span(parse_seconds))]
Bandwidths = Annotated[tuple[_Bandwidth, _Bandwidth], BeforeValidator(_span(parse_bytes))]
Losses = Annotated[tuple[_Loss, _Loss], BeforeValidator(_span(_number))]
Speeds = Annotated[tuple[_Speed, _Speed], BeforeValidator(_span(_number))]
