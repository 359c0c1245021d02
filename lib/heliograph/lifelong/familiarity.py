"""How little a task knows a sample: low confidence or a large distance of its features, as one number. Pure.

The distance is that of Lee, Lee, Lee and Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples
and Adversarial Attacks", NeurIPS 2018, https://arxiv.org/abs/1807.03888: Mahalanobis' distance to the nearest class's
mean, with one covariance for all classes. The covariance is one of few axes and equal variance across them (Tipping and
Bishop 1999, https://doi.org/10.1111/1467-9868.00196), so that it needs fewer samples than features, and little room.

The sign: both parts, and the number, grow with strangeness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliograph.core.errors import Refused

Array = np.ndarray[Any, Any]
MAX_AXES = 16
"""Axes of the covariance: with more, what is noise among the known samples counts as much as their form."""
KNOWN_SHARE = 0.95
"""Share of a task's own samples within the limit of each of the two parts."""
LEAST_DOUBT = 0.25
"""Lowest limit of the doubt, 1 - confidence: a model that is sure of all it has seen is no stranger to 0.9."""
_LEAST_VARIANCE = 1e-3
"""Variance of an axis beside the mean one, at least: one without any would make all other samples infinitely far."""
_MOST = 1e6


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What a task's samples look like.

    Attributes:
        means: (classes, d), the mean features of each class that the task knows.
        axes: (k, d), the directions in which samples of a class differ most.
        variances: (k + 1), the variance along each, and last across all others.
        limits: (2), the distance and the doubt within which ``KNOWN_SHARE`` of the task's own samples lie.
    """

    means: Array
    axes: Array
    variances: Array
    limits: Array

    @classmethod
    def of(cls, features: Array, classes: Array, known: Mapping[int, Array] | None = None) -> Familiarity:
        """Return the familiarity of features (n, d) of samples with their classes, without limits yet.

        Args:
            known: means of further classes, of which there is no sample.
        """
        found = _checked(features)
        names = sorted({*np.unique(classes).tolist(), *(known or {})})
        own = {name: found[classes == name].mean(0) for name in np.unique(classes).tolist()}
        means = np.stack([own[name] if name in own else (known or {})[name] for name in names])
        away = found - np.stack([own[name] for name in classes.tolist()])
        width = found.shape[1]
        _, lengths, directions = np.linalg.svd(away, full_matrices=False)
        variances = lengths**2 / len(found)
        count = min(MAX_AXES, len(variances), width)
        total = float(variances.sum())
        least = max(_LEAST_VARIANCE * total / width, 1e-12)
        rest = max(float(variances[count:].sum()) / max(width - count, 1), least)
        spread = np.concatenate([np.maximum(variances[:count], rest), [rest]])
        return cls(*(each.astype(np.float32) for each in (means, directions[:count], spread, np.ones(2))))

    def limited(self, features: Array, confidence: Array) -> Familiarity:
        """Return it with the limits that samples of the task set, of which it has not been made."""
        distance = float(np.quantile(self.distance(features), KNOWN_SHARE))
        doubt = max(float(np.quantile(1 - confidence, KNOWN_SHARE)), LEAST_DOUBT)
        limits = np.array([max(distance, 1e-6), doubt], np.float32)
        return Familiarity(self.means, self.axes, self.variances, limits)

    def distance(self, features: Array) -> Array:
        """Return the distance (n) of features (n, d) to the nearest class."""
        found = _checked(features)
        if found.shape[1] != self.means.shape[1]:
            raise Refused("bad-shape", field="features", expected=f"{self.means.shape[1]} features of each sample, as "
                          "the task was learned with", got=found.shape[1])  # fmt: skip
        nearest = np.full(len(found), np.inf)
        axes, variances = self.axes.astype(np.float64), self.variances.astype(np.float64)
        for mean in self.means:
            away = found - mean
            along = away @ axes.T
            across = np.maximum((away**2).sum(1) - (along**2).sum(1), 0)
            nearest = np.minimum(nearest, (along**2 / variances[:-1]).sum(1) + across / variances[-1])
        return np.asarray(np.sqrt(nearest / found.shape[1]))

    def unknown(self, features: Array, confidence: Array) -> Array:
        """Return how little each sample is known: up to 1 for the task's own, larger for less known ones.

        It is the larger of distance and doubt, each in shares of its limit: low confidence *or* a large distance.
        """
        far = self.distance(features) / float(self.limits[0])
        unsure = (1 - confidence) / float(self.limits[1])
        return np.minimum(np.maximum(far, unsure), _MOST)


def _checked(features: Array) -> Array:
    found = features.reshape(len(features), -1).astype(np.float64)
    if not np.isfinite(found).all():
        raise Refused("not-finite", field="features", expected="finite features", got="NaN or infinity")
    return found
