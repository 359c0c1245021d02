"""The interface of a strategy: what it adds to a round, and what it keeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import numpy as np

    from heliograph.incremental.adapters import LearningAdapter
    from heliograph.incremental.adapters.adapter import ScoreTerm, WeightTerm
    from heliograph.incremental.memory import Memory
    from heliograph.incremental.samples import Samples


class Strategy:
    """A way not to forget. Every method has a default that does nothing.

    Attributes:
        keeps_classes: whether it keeps old classes where new ones come.
        keeps_samples: whether it decides which exemplars the memory has; of these a script has one.
    """

    keeps_classes: ClassVar[bool] = False
    keeps_samples: ClassVar[bool] = False

    def restore(self, model: LearningAdapter, memory: Memory) -> None:
        """Undo what ``finish`` has changed in the weights, before they are trained again."""

    def weight_term(self, model: LearningAdapter, memory: Memory) -> WeightTerm | None:
        """Return a penalty on the weights for the coming round."""
        return None

    def score_term(self, model: LearningAdapter, memory: Memory) -> ScoreTerm | None:
        """Return a penalty on the scores for the coming round; the model is the one before it."""
        return None

    def finish(self, model: LearningAdapter, new: Samples, memory: Memory, rng: np.random.Generator) -> Memory:
        """Return the memory after a round that has trained the model on ``new`` samples."""
        return memory
