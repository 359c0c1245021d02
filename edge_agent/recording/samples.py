"""The samples that one message holds, by the fields of a data set. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from heliograph.core.errors import Refused

WHOLE, EACH = ".", "*"
LARGEST = 3.4028234663852886e38
"""The largest float32."""
MISSING = object()


def samples_of(data: Any, fields: Sequence[str]) -> array[float]:
    """Return the samples in a message's data, one after the other, each with a number for each field.

    Raise Refused where a field is missing, is no finite number, or has another length than the others.
    """
    columns = [column_of(data, each) for each in fields]
    count = len(columns[0])
    for name, column in zip(fields, columns, strict=True):
        if len(column) != count:
            raise unreadable(name, f"as many numbers as in {fields[0]}", f"{len(column)}, not {count}")
    if len(columns) == 1:
        return array("f", columns[0])
    samples = array("f", bytes(4 * count * len(columns)))
    for place, column in enumerate(columns):
        samples[place :: len(columns)] = array("f", column)
    return samples


def column_of(data: Any, field: str) -> Sequence[float]:
    """Return a field's numbers: one, or those of a list. Raise Refused where there are none."""
    found = value_of(data, field)
    if found is MISSING:
        raise unreadable(field, "a number", "a message without it")
    return [number_of(each, field) for each in found] if isinstance(found, list) else (number_of(found, field),)


def number_of(value: Any, field: str) -> float:
    """Return a value as a number that float32 holds. Raise Refused where it is none."""
    if not isinstance(value, (int, float)):
        raise unreadable(field, "a number", value)
    if not -LARGEST <= value <= LARGEST:  # NaN too
        raise unreadable(field, "a finite number that float32 holds", value)
    return float(value)


def unreadable(field: str, expected: str, got: object) -> Refused:
    """Return why a message gives no sample, or no label."""
    return Refused("no-sample", field=field, expected=expected, got=got)


def value_of(data: Any, field: str) -> Any:
    """Return what a field holds; ``MISSING`` where the message does not have it."""
    return _within(data, [] if field == WHOLE else field.split("."))


def _within(data: Any, path: Sequence[str]) -> Any:
    for place, step in enumerate(path):
        if step == EACH and isinstance(data, list):
            found = [_within(each, path[place + 1 :]) for each in data]
            return MISSING if any(each is MISSING for each in found) else found
        if isinstance(data, dict) and step in data:
            data = data[step]
        elif isinstance(data, list) and step.isdecimal() and len(step) < 8 and int(step) < len(data):
            data = data[int(step)]
        else:
            return MISSING
    return data
