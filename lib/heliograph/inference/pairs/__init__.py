"""Training the pair: what each model is for, how the shallow one learns from the deep, how few samples become more."""

from heliograph.inference.pairs.distillation import distillation, soft_targets
from heliograph.inference.pairs.nearest import Nearest, nearest
from heliograph.inference.pairs.objectives import (
    OBJECTIVES,
    ClassThreshold,
    class_thresholds,
    class_weights,
    decide,
    pair_weights,
)

__all__ = [
    "OBJECTIVES",
    "ClassThreshold",
    "Nearest",
    "class_thresholds",
    "class_weights",
    "decide",
    "distillation",
    "nearest",
    "pair_weights",
    "soft_targets",
]
