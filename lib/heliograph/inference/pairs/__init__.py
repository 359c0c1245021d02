"""Training the pair of models: objectives, distillation from deep to shallow, and selection of public samples."""

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
