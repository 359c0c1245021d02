"""Tuning the hard-sample rule of a joint inference service: the trade of offload for accuracy."""

from heliograph.inference.tuning.curve import Choice, Curve, Point, curve
from heliograph.inference.tuning.labelled import LabelledSet, from_arrays, read_labelled
from heliograph.inference.tuning.page import page
from heliograph.inference.tuning.search import Tuned, tune
from heliograph.inference.tuning.terminal import plot

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
