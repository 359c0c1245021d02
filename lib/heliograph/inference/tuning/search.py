"""Tuning: find a service's rule parameters and temperature on a labelled set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliograph.bus.contract.resources.base import Scalar
from heliograph.core.errors import Refused
from heliograph.inference.calibration import Calibration, calibrate, fit_temperature, is_distribution
from heliograph.inference.hard_samples import dial
from heliograph.inference.hard_samples.router import fit
from heliograph.inference.hard_samples.scores import as_list
from heliograph.inference.tuning.curve import Choice, Curve, curve
from heliograph.inference.tuning.labelled import LabelledSet, as_rows

PROBABILISTIC = ("entropy", "margin", "router", "threshold")
"""Rules that read probabilities of classes, so that a temperature calibrates them."""


@dataclass(frozen=True)
class Tuned:
    """The result of tuning.

    Attributes:
        curve, choice: the rule's curve, and the chosen point of it.
        parameters: all parameters of the rule.
        calibration: the fitted temperature; None if none was fitted.
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
    """Find the parameters with which edge and cloud together reach an accuracy, or stay within an offload.

    Neither model should have seen the samples in training, where models are overconfident. The router is trained and
    measured on the same samples.

    Args:
        data: the labelled set.
        rule: the rule's name.
        parameters: the rule's present parameters; the ones that are not tuned stay.
        target_accuracy: accuracy to reach with the least offload, 0 to 1. Give either this or ``max_offload``.
        max_offload: largest share of samples that may go to the cloud, 0 to 1, for the best accuracy.
        temperature: temperature that calibrates the scores; None fits one if the rule reads probabilities and the set
            has labels.

    Raises:
        ValueError: if both or neither of ``target_accuracy`` and ``max_offload`` are given.
        Refused: if the rule or a parameter is unknown, the rule has no parameter to tune, or the scores are no
            probabilities though the rule reads them.
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
        rows = [calibrate(row, temperature) for row in as_rows(data.edge_scores)]
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
        scores = as_list(row)
        if scores and not is_distribution(scores):
            raise Refused(
                "not-probabilities", field=f"edge_scores[{number}]", got=[round(each, 4) for each in scores[:6]],
                expected=f"probabilities that sum to 1, which the rule {rule} reads",
                hint="Put a softmax behind the edge's model, here and where it serves; for logits use the rule energy.",
            )  # fmt: skip
