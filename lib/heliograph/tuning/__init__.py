"""Tuning the rule of a joint inference service: how much goes to the cloud, and what accuracy that buys."""

from heliograph.tuning.curve import Choice, Curve, Point, curve
from heliograph.tuning.labelled import LabelledSet, from_arrays, read_labelled
from heliograph.tuning.page import page
from heliograph.tuning.terminal import plot
from heliograph.tuning.tune import Tuned, tune

__all__ = [
    "Choice",
    "Curve",
    "LabelledSet",
    "Point",
    "Tuned",
    "curve",
    "from_arrays",
    "page",
    "plot",
    "read_labelled",
    "tune",
]
