"""The accuracy/offload curve: what a rule makes of a labelled set at every value of the parameter that is turned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heliograph.bus.contract.resources.base import Scalar
from heliograph.inference.calibration import calibrated
from heliograph.inference.hard_samples import checked, dial, rules
from heliograph.inference.tuning.labelled import LabelledSet, as_rows

Array = np.ndarray[Any, Any]
_ROUNDING = 1e-12
"""By which a share may miss what was asked: 0.97 of 100 samples is 97 of them."""


@dataclass(frozen=True)
class Point:
    """One place on the curve: at this value of the parameter so much goes to the cloud, and so much is right."""

    value: float
    offload: float
    accuracy: float


@dataclass(frozen=True)
class Choice:
    """A point, and whether it is what was asked for; where nothing is, the point is the nearest to it."""

    point: Point
    reached: bool
    wanted: str

    def sentence(self) -> str:
        """``accuracy 0.9712 with 18.2 % offloaded``, or that what was wanted cannot be reached."""
        said = f"accuracy {self.point.accuracy:.4f} with {self.point.offload:.1%} offloaded".replace("%", " %")
        return said if self.reached else f"{self.wanted} cannot be reached with this rule; the nearest is {said}"


@dataclass(frozen=True)
class Curve:
    """Accuracy and offload of edge and cloud together, over the values of a rule's parameter.

    Attributes:
        rule, parameter: what is turned; ``parameters`` are the rule's others.
        temperature: by which the scores were calibrated first.
        values, offload, accuracy: one entry a point, 1-D, by rising offload; no two points offload as much.
        edge_accuracy, cloud_accuracy: of each model alone.
        samples: that were measured on.
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
        """The smallest offload whose accuracy is at least ``target``; else the best accuracy, at its least offload."""
        enough = np.flatnonzero(self.accuracy >= target - _ROUNDING)
        best = int(enough[0]) if len(enough) else int(self.accuracy.argmax())
        return Choice(self.point(best), bool(len(enough)), f"accuracy {target:g}")

    def for_offload(self, most: float) -> Choice:
        """The best accuracy whose offload is at most ``most``, at its least offload; else the least offload there is:
        samples whose scores cannot be read are hard whatever the parameter."""
        allowed = np.flatnonzero(self.offload <= most + _ROUNDING)
        best = int(self.accuracy[allowed].argmax()) if len(allowed) else 0
        return Choice(self.point(best), bool(len(allowed)), f"an offload of {most:.1%}".replace("%", " %"))


def curve(data: LabelledSet, rule: str, parameters: Mapping[str, Scalar], temperature: float = 1.0) -> Curve:
    """The curve of a rule on a labelled set, at every value of its parameter that parts the samples differently.

    Args:
        parameters: the rule's others; the one that is turned may be among them and does not matter.
        temperature: by which the edge's scores are calibrated before the rule sees them.

    Raises Refused where there is no such rule or parameter, or the rule has nothing to turn.
    """
    turned = dial(rule)
    others = checked(rule, parameters)
    del others[turned.parameter]
    measured = np.array([turned.measure(calibrated(row, temperature), **others) for row in as_rows(data.edge_scores)])

    sign = -1.0 if turned.hard == ">" else 1.0  # with it a sample is hard where its key is below the value's
    order = np.argsort(sign * measured, kind="stable")
    keys = sign * measured[order]
    values = _candidates(keys, sign, rules()[rule]["properties"][turned.parameter])
    hard = np.searchsorted(keys, sign * values, side="right" if turned.hard == "<=" else "left")
    hard, first = np.unique(hard, return_index=True)

    gained = data.cloud_correct[order].astype(np.int64) - data.edge_correct[order]
    right = int(data.edge_correct.sum()) + np.concatenate([[0], np.cumsum(gained)])
    samples = len(keys)
    return Curve(
        rule, turned.parameter, others, temperature, values[first], hard / samples, right[hard] / samples,
        float(data.edge_correct.mean()), float(data.cloud_correct.mean()), samples,
    )  # fmt: skip


def thinned(curve: Curve, most: int) -> Curve:
    """At most so many of a curve's points, the first and the last among them; for showing, not for choosing."""
    kept = np.unique(np.linspace(0, len(curve.values) - 1, min(most, len(curve.values))).round().astype(int))
    return replace(curve, values=curve.values[kept], offload=curve.offload[kept], accuracy=curve.accuracy[kept])


def _candidates(keys: Array, sign: float, schema: Mapping[str, Any]) -> Array:
    """Values of the parameter, by rising offload: midway between neighbours, where a new sample is least likely to
    fall on the other side, and the ends of the parameter's range."""
    distinct = np.unique(keys[np.isfinite(keys)])
    middles = distinct[:-1] + (distinct[1:] - distinct[:-1]) / 2
    ends = sorted(sign * schema[name] for name in ("minimum", "maximum") if name in schema)
    low, high = ends or (distinct[0] - 1, distinct[-1] + 1) if len(distinct) else (ends or (0.0, 0.0))
    inner = middles[(middles > low) & (middles < high)]
    return sign * np.concatenate([[low], inner, [high]])
