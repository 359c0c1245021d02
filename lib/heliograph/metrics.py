"""Metrics as scripts report them: numbers, arrays of one element, Keras' histories and evaluations.

A metric never costs a round: what is no finite number is left out, with one warning for each name.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from heliograph.core.errors import shorten

MAX_METRICS, MAX_METRIC_NAME = 64, 128
"""Metrics of a round, and characters of a metric's name, at most: as the topic of updates allows."""
_DIVERGED = "is left out: training has diverged if it is a loss, so lower its learning rate"
_NUMBER = "expected a number, an array of one element, or a list of one number for each epoch"
_warned: set[tuple[str, str]] = set()


class Metrics(dict[str, float]):
    """Metrics by name; of what is added only usable ones stay.

    Args:
        where: the function to which the script gives them, for warnings.
    """

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def add(self, given: Mapping[str, Any], depth: int = 3) -> None:
        """Add metrics; warn of those that are left out, at the caller's ``depth``."""
        for name, value in given.items():
            if problem := self._add(name, value):
                _warn(self._where, name, problem, depth + 1)

    def _add(self, name: Any, value: Any) -> str:
        """Add a metric. Return why it is left out, or what was taken of it; empty if it is as it was given."""
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= MAX_METRIC_NAME:
            return f"is left out: expected a printable name of at most {MAX_METRIC_NAME} characters"
        if name not in self and len(self) >= MAX_METRICS:
            return f"is left out: a round has at most {MAX_METRICS} metrics"
        note = ""
        if isinstance(value, list) and value and all(_number(each) is not None for each in value):
            if len(value) > 1:
                note = f"is a list of {len(value)} numbers: the last is taken, as of the epochs of a fit"
            value = value[-1]
        number = _number(value)
        if number is None:
            return f"is left out: {_NUMBER}, got {_described(value)}"
        if not math.isfinite(number):
            return f"is {number}, and {_DIVERGED}"
        self[name] = number
        return note

def measured(result: Any, model: Any) -> Metrics:
    """Return the metrics of what a script's ``evaluate`` returned.

    A list or tuple of numbers is what Keras' ``model.evaluate`` returns, and gets the names of the model's metrics.
    """
    found = Metrics("evaluate")
    if isinstance(result, Mapping):
        found.add(result, depth=5)
    elif isinstance(result, (list, tuple)) and len(result) != 1:
        names = _names_of(model, result)
        if names:
            found.add(dict(zip(names, result, strict=True)), depth=5)
        else:
            problem = f"is left out: expected a number or a dict of numbers, got {_described(result)}; name them: " \
                'return {"loss": loss, "accuracy": accuracy}'  # fmt: skip
            _warn("evaluate", "accuracy", problem, 5)
    else:
        value = result[0] if isinstance(result, (list, tuple)) else result
        found.add({"loss" if _is_loss_of(model, value) else "accuracy": value}, depth=5)
    return found


def _is_loss_of(model: Any, value: Any) -> bool:
    """Return whether a number is the loss that a Keras model without other metrics has just measured."""
    try:
        measured = dict(model.get_metrics_result())
    except Exception:  # as below
        return False
    return list(measured) == ["loss"] and _number(measured["loss"]) == _number(value)


def _names_of(model: Any, values: Sequence[Any]) -> list[str]:
    """Return the names of the metrics of a Keras model, as many as there are values; empty if it has others."""
    try:
        names = [str(name) for name in model.get_metrics_result()]
    except Exception:  # not Keras, or a model without compiled metrics
        names = []
    if len(names) != len(values):
        names = [str(name) for name in getattr(model, "metrics_names", None) or ()]
    return names if len(names) == len(values) else []


def _number(value: Any) -> float | None:
    """Return a number, or an array's or tensor's only element; None for anything else, also text of digits."""
    if isinstance(value, (str, bytes, bytearray, list, tuple)):
        return None
    try:
        item = getattr(value, "item", None)
        return float(item() if callable(item) else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def _described(value: Any) -> str:
    if isinstance(value, (list, tuple, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    shape = getattr(value, "shape", None)
    return f"an array of shape {tuple(shape)}" if shape else shorten(value)


def _warn(where: str, name: Any, problem: str, depth: int) -> None:
    about = shorten(name)
    if (where, about) not in _warned and len(_warned) < 1024:
        _warned.add((where, about))
        warnings.warn(f"{where}: metric {about} {problem}", stacklevel=depth)
