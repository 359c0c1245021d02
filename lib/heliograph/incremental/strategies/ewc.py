"""Elastic weight consolidation: hold the weights that earlier rounds need near their values.

Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", https://arxiv.org/abs/1612.00796, with
one running sum of importances instead of one penalty for each round (Schwarz et al. 2018, "online EWC",
https://arxiv.org/abs/1805.06370).

The importance of a weight is the mean over samples of the squared gradient of each one's log-likelihood: the diagonal
of the empirical Fisher information. Squaring the mean gradient of a batch instead is a common fault: it is near 0 where
the model fits (van de Ven 2025, https://arxiv.org/abs/2502.11756).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from heliograph.core.errors import Refused
from heliograph.incremental.adapters.adapter import WeightTerm
from heliograph.incremental.adapters.heads import known_part
from heliograph.incremental.strategies.replay import size_of
from heliograph.incremental.strategies.strategy import Strategy

if TYPE_CHECKING:
    from heliograph.incremental.adapters import LearningAdapter
    from heliograph.incremental.memory import Memory
    from heliograph.incremental.samples import Samples

_ANCHOR, _IMPORTANCE = "ewc:anchor:", "ewc:importance:"


class EWC(Strategy):
    """Add ``strength / 2`` times the sum of importance times squared distance to the loss.

    It keeps what the model does in the classes that it has. It does not keep them apart from new ones: for new classes
    it needs replay beside it.

    Args:
        strength: of the penalty, more than 0.
        samples: number of new samples that the importances are measured on, at most.
        decay: what the importances of earlier rounds are multiplied by, more than 0 and at most 1.

    Raises:
        Refused: if an argument is out of its range.
    """

    keeps_classes: ClassVar[bool] = False

    def __init__(self, strength: float = 1000.0, *, samples: int = 500, decay: float = 1.0) -> None:
        if not 0 < strength < float("inf"):
            raise Refused("bad-argument", field="strength", expected="a number above 0", got=strength)
        if not 0 < decay <= 1:
            raise Refused("bad-argument", field="decay", expected="a number above 0, at most 1", got=decay)
        self.strength = float(strength)
        self.samples = size_of(samples)
        self.decay = float(decay)

    def weight_term(self, model: LearningAdapter, memory: Memory) -> WeightTerm | None:
        importance = memory.state_of(_IMPORTANCE)
        return WeightTerm(memory.state_of(_ANCHOR), importance, self.strength) if importance else None

    def finish(self, model: LearningAdapter, new: Samples, memory: Memory, rng: np.random.Generator) -> Memory:
        chosen = rng.permutation(len(new))[: self.samples]
        measured = model.squared_gradients(new.x[chosen], new.y[chosen])
        weights, earlier = model.weights.get(), memory.state_of(_IMPORTANCE)
        found = {}
        for name, each in measured.items():
            if name in earlier:
                each[known_part(each, earlier[name].shape)] += self.decay * earlier[name]
            if not np.isfinite(each).all():
                raise Refused("not-finite", field=f"importance of {name}", expected="finite gradients",
                              got="NaN or infinity", hint="The training has diverged: lower the learning "
                              "rate.")  # fmt: skip
            found[_IMPORTANCE + name] = each.astype(np.float32)
            found[_ANCHOR + name] = weights[name]
        return memory.with_state(found)
