"""Learning without forgetting: on the new samples, keep the scores that the old model gives to the old classes.

Li and Hoiem 2016, "Learning without forgetting", https://arxiv.org/abs/1606.09282, with their temperature T = 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from heliograph.core.errors import Refused
from heliograph.incremental.adapters.adapter import ScoreTerm
from heliograph.incremental.strategies.strategy import Strategy

if TYPE_CHECKING:
    from heliograph.incremental.adapters import LearningAdapter
    from heliograph.incremental.memory import Memory


class LwF(Strategy):
    """Add ``strength`` times T squared times the mean divergence from the old model's scores to the loss.

    It needs no exemplars. For new classes alone it is no way: replay has to be beside it.

    Args:
        strength: of the penalty, more than 0.
        temperature: T, which softens both models' scores, more than 0.

    Raises:
        Refused: if an argument is out of its range.
    """

    keeps_classes: ClassVar[bool] = False

    def __init__(self, strength: float = 1.0, *, temperature: float = 2.0) -> None:
        for name, value in (("strength", strength), ("temperature", temperature)):
            if not 0 < value < float("inf"):
                raise Refused("bad-argument", field=name, expected="a number above 0", got=value)
        self.strength = float(strength)
        self.temperature = float(temperature)

    def score_term(self, model: LearningAdapter, memory: Memory) -> ScoreTerm | None:
        columns = np.array([each for each in memory.seen if each < model.count()], np.int64)
        return ScoreTerm(model.frozen(), columns, self.temperature, self.strength) if len(columns) > 1 else None
