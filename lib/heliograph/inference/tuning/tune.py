"""Tuning: which rule parameters and which temperature a service shall have, from a labelled set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliograph.bus.contract.resources.base import Scalar
from heliograph.core.errors import Refused
from heliograph.inference.calibration import Calibration, calibrated, fit_temperature, is_distribution
from heliograph.inference.hard_samples import dial
from heliograph.inference.hard_samples.router import fit
from heliograph.inference.hard_samples.scores import listed
from heliograph.inference.tuning.curve import Choice, Curve, curve
from heliograph.inference.tuning.labelled import LabelledSet, as_rows

PROBABILISTIC = ("entropy", "margin", "router", "threshold")
"""The rules whose scores are probabilities of classes, which a temperature calibrates."""


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        curve, choice: the rule's curve, and the place on it.
        parameters: the rule's, all of them.
        calibration: None where the rule does not take probabilities, or nothing was fitted.
    """

    curve: Curve
    choice: Choice
    parameters: dict[str, Any]
    calibration: Calibration | None

    @property
    def temperature(self) -> float:
        return self.curve.temperature


def tune(
    data: LabelledSet,
    rule: str,
    parameters: Mapping[str, Scalar],
    *,
    target_accuracy: float | None = None,
    max_offload: float | None = None,
    temperature: float | None = None,
) -> Tuned:
    """The parameters of a rule with which edge and cloud together reach an accuracy, or stay within an offload.

    Both models should see these samples for the first time: on what they were trained on they are too sure. The router
    is trained here, and measured on the same samples.

    Args:
        parameters: the rule's, as they are now; what is not turned stays.
        target_accuracy: reach it with the least offload. Either this or ``max_offload``: the best accuracy within it.
        temperature: calibrate with this one; None fits it where the rule takes probabilities and there are labels.

    Raises Refused where there is no such rule or parameter, or the scores are of another kind than the rule's.
    """
    if (target_accuracy is None) == (max_offload is None):
        raise ValueError("give either target_accuracy or max_offload")
    dial(rule)
    calibration = None
    if rule in PROBABILISTIC:
        _check_probabilities(data, rule)
        if temperature is None and data.labels is not None:
            calibration = fit_temperature(np.asarray(data.edge_scores), data.labels)
            temperature = calibration.temperature
    temperature = 1.0 if temperature is None else temperature
    if rule == "router":
        rows = [calibrated(row, temperature) for row in as_rows(data.edge_scores)]
        parameters = {**parameters, **fit(rows, data.edge_correct, data.cloud_correct)}
    found = curve(data, rule, parameters, temperature)
    if target_accuracy is not None:
        choice = found.for_accuracy(target_accuracy)
    else:
        assert max_offload is not None
        choice = found.for_offload(max_offload)
    return Tuned(found, choice, {**found.parameters, found.parameter: choice.point.value}, calibration)


def _check_probabilities(data: LabelledSet, rule: str) -> None:
    for number, row in enumerate(as_rows(data.edge_scores)):
        scores = listed(row)
        if scores and not is_distribution(scores):
            raise Refused(
                "not-probabilities", field=f"edge_scores[{number}]", got=[round(each, 4) for each in scores[:6]],
                expected=f"probabilities that sum to 1, which the rule {rule} takes",
                hint="Put a softmax behind the edge's model, here and where it serves; the rule energy takes logits.",
            )  # fmt: skip
