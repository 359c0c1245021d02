"""The accuracy/offload curve: a rule's accuracy and offload on a labelled set at every value of its tuned parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heliograph.bus.contract.resources.base import Scalar
from heliograph.inference.calibration import calibrate
from heliograph.inference.hard_samples import dial, full_parameters, rules
from heliograph.inference.tuning.labelled import LabelledSet, as_rows

Array = np.ndarray[Any, Any]
_ROUNDING = 1e-12
"""Tolerance of a share against rounding: 0.97 of 100 samples is 97 of them."""


@dataclass(frozen=True)
class Point:
    """A point of the curve.

    Attributes:
        value: the value of the tuned parameter.
        offload: share of the samples that go to the cloud, 0 to 1.
        accuracy: share of the samples that edge and cloud together answer correctly, 0 to 1.
    """

    value: float
    offload: float
    accuracy: float


@dataclass(frozen=True)
class Choice:
    """A chosen point.

    Attributes:
        point: the point that meets the wish, or the nearest to it.
        reached: whether the point meets the wish.
        wanted: the wish in words.
    """

    point: Point
    reached: bool
    wanted: str

    def sentence(self) -> str:
        """Return ``accuracy 0.9712 with 18.2 % offloaded``, preceded by the wish if it cannot be reached."""
        point = f"accuracy {self.point.accuracy:.4f} with {self.point.offload:.1%} offloaded".replace("%", " %")
        return point if self.reached else f"{self.wanted} cannot be reached with this rule; the nearest is {point}"


@dataclass(frozen=True)
class Curve:
    """Accuracy and offload of edge and cloud together, over the values of a rule's parameter.

    Attributes:
        rule: the rule's name.
        parameter: name of the tuned parameter; ``parameters`` are the rule's others.
        temperature: temperature that calibrated the scores.
        values, offload, accuracy: the points, each of shape (points,), by strictly rising offload.
        edge_accuracy, cloud_accuracy: accuracy of each model alone, 0 to 1.
        samples: number of samples measured.
    """

    rule: str
    parameter: str
    parameters: dict[str, Any]
    temperature: float
    values: Array
    offload: Array
    accuracy: Array
    edge_accuracy: float
    cloud_accuracy: float
    samples: int

    def point(self, index: int) -> Point:
        return Point(float(self.values[index]), float(self.offload[index]), float(self.accuracy[index]))

    def for_accuracy(self, target: float) -> Choice:
        """Choose the least offload with an accuracy of at least ``target``, or the best accuracy if none has it."""
        enough = np.flatnonzero(self.accuracy >= target - _ROUNDING)
        best = int(enough[0]) if len(enough) else int(self.accuracy.argmax())
        return Choice(self.point(best), bool(len(enough)), f"accuracy {target:g}")

    def for_offload(self, most: float) -> Choice:
        """Choose the best accuracy with an offload of at most ``most``, or the least offload if none is so small.

        Samples with unreadable scores are hard at every value, so the least offload may be above 0.
        """
        allowed = np.flatnonzero(self.offload <= most + _ROUNDING)
        best = int(self.accuracy[allowed].argmax()) if len(allowed) else 0
        return Choice(self.point(best), bool(len(allowed)), f"an offload of {most:.1%}".replace("%", " %"))


def curve(data: LabelledSet, rule: str, parameters: Mapping[str, Scalar], temperature: float = 1.0) -> Curve:
    """Compute the curve of a rule on a labelled set, with one point for each split that its parameter can make.

    Args:
        data: the labelled set.
        rule: the rule's name.
        parameters: the rule's other parameters; a value of the tuned one is ignored.
        temperature: temperature that calibrates the edge's scores before the rule sees them.

    Raises:
        Refused: if the rule or a parameter is unknown, or the rule has no parameter to tune.
    """
    tuned = dial(rule)
    others = full_parameters(rule, parameters)
    del others[tuned.parameter]
    measured = np.array([tuned.measure(calibrate(row, temperature), **others) for row in as_rows(data.edge_scores)])

    sign = -1.0 if tuned.hard == ">" else 1.0  # makes a sample hard if its key is below the value's
    order = np.argsort(sign * measured, kind="stable")
    keys = sign * measured[order]
    values = _candidates(keys, sign, rules()[rule]["properties"][tuned.parameter])
    hard = np.searchsorted(keys, sign * values, side="right" if tuned.hard == "<=" else "left")
    hard, first = np.unique(hard, return_index=True)

    gained = data.cloud_correct[order].astype(np.int64) - data.edge_correct[order]
    right = int(data.edge_correct.sum()) + np.concatenate([[0], np.cumsum(gained)])
    samples = len(keys)
    return Curve(
        rule, tuned.parameter, others, temperature, values[first], hard / samples, right[hard] / samples,
        float(data.edge_correct.mean()), float(data.cloud_correct.mean()), samples,
    )  # fmt: skip


def thinned(curve: Curve, most: int) -> Curve:
    """Return a curve for display with at most ``most`` points, evenly picked, the first and the last among them."""
    kept = np.unique(np.linspace(0, len(curve.values) - 1, min(most, len(curve.values))).round().astype(int))
    return replace(curve, values=curve.values[kept], offload=curve.offload[kept], accuracy=curve.accuracy[kept])


def _candidates(keys: Array, sign: float, schema: Mapping[str, Any]) -> Array:
    """Return candidate values of the parameter by rising offload: the ends of its range, and all midpoints of keys.

    A midpoint is the value at which a new sample is least likely to fall on the other side.
    """
    distinct = np.unique(keys[np.isfinite(keys)])
    middles = distinct[:-1] + (distinct[1:] - distinct[:-1]) / 2
    ends = sorted(sign * schema[name] for name in ("minimum", "maximum") if name in schema)
    low, high = ends or (distinct[0] - 1, distinct[-1] + 1) if len(distinct) else (ends or (0.0, 0.0))
    inner = middles[(middles > low) & (middles < high)]
    return sign * np.concatenate([[low], inner, [high]])
