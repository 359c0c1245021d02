"""iCaRL: exemplars by herding, and the nearest mean of exemplars as the classifier.

Rebuffi et al. 2017, "iCaRL: incremental classifier and representation learning", https://arxiv.org/abs/1611.07725.

The means have length 1, so that the nearest mean is the largest product of a mean and the features: a linear layer.
The weights that a round sends have the means as their head, and whoever serves them answers by the nearest mean without
a line of code. The trained head is kept in the memory, and the next round trains on from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from heliograph.incremental.adapters.adapter import softmax
from heliograph.incremental.samples import Samples, joined
from heliograph.incremental.strategies.replay import share_of_each, size_of
from heliograph.incremental.strategies.strategy import Strategy

if TYPE_CHECKING:
    from heliograph.incremental.adapters import LearningAdapter
    from heliograph.incremental.memory import Memory

Array = np.ndarray[Any, Any]
_HEAD = "icarl:"
_CANDIDATES = 5000
"""Samples of a class among which herding chooses, at most."""
_NEVER = -1e4
"""Bias of a class that has no exemplars."""
_SCALES = np.geomspace(0.5, 64, 24)


class ICaRL(Strategy):
    """Keep ``size`` exemplars, the same number of each class, whose mean is nearest to the mean of their class.

    Raises:
        Refused: if the size is no whole number from 1.
    """

    keeps_classes: ClassVar[bool] = True
    keeps_samples: ClassVar[bool] = True

    def __init__(self, size: int = 2000) -> None:
        self.size = size_of(size)

    def restore(self, model: LearningAdapter, memory: Memory) -> None:
        model.write(memory.state_of(_HEAD))

    def finish(self, model: LearningAdapter, new: Samples, memory: Memory, rng: np.random.Generator) -> Memory:
        kept = memory.samples if memory.samples is not None else new[:0]
        counts = {int(each): int((new.y == each).sum() + (kept.y == each).sum())
                  for each in np.union1d(new.y, kept.y)}  # fmt: skip
        chosen = []
        for each, share in share_of_each(counts, self.size).items():
            fresh, old = new[new.y == each], kept[kept.y == each]
            if not len(fresh):
                chosen.append(old[:share])  # exemplars are in the order of herding: the first ones are the best
                continue
            among = joined([old, fresh])
            if len(among) > _CANDIDATES:
                among = among[np.sort(rng.permutation(len(among))[:_CANDIDATES])]
            chosen.append(among[herded(unit_rows(model.features(among.x)), share)])
        exemplars = joined(chosen) if chosen else kept
        trained = model.head()
        if len(exemplars):
            model.write(model.with_rows(*_head_of_means(model, exemplars)))
        return memory.with_samples(exemplars).with_state({_HEAD + name: each for name, each in trained.items()})


def herded(features: Array, count: int) -> Array:
    """Return the places of exemplars, the best first: each brings the mean of those chosen nearest to the mean of all.

    Args:
        features: (n, d).
    """
    target = features.mean(0)
    total = np.zeros_like(target)
    free = np.ones(len(features), bool)
    chosen = []
    squares = (features**2).sum(1)
    for number in range(1, min(count, len(features)) + 1):
        # |target - (total + f) / number|^2, without what is the same for all
        wanted = number * target - total
        distance = squares - 2 * features @ wanted
        distance[~free] = np.inf
        best = int(distance.argmin())
        chosen.append(best)
        free[best] = False
        total += features[best]
    return np.array(chosen, np.int64)


def class_means(features: Array, y: Array, classes: int) -> Array:
    """Return the mean (classes, d) of the exemplars of each class, of length 1; of a class without exemplars zeros."""
    rows = unit_rows(features)
    means = np.zeros((classes, features.shape[1]))
    for each in np.unique(y):
        means[each] = rows[y == each].mean(0)
    return unit_rows(means)


def unit_rows(rows: Array) -> Array:
    """Return rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1.0))


def _head_of_means(model: LearningAdapter, exemplars: Samples) -> tuple[Array, Array]:
    """Return rows and biases of a head that answers by the nearest mean, calibrated on the exemplars.

    A class without exemplars is never the answer. What is the same in all rows changes no answer and is left out: it
    would drive the sigmoids of a model of one class against the others to 1.
    """
    features = model.features(exemplars.x).astype(np.float64)
    known = np.unique(exemplars.y)
    means = class_means(features, exemplars.y, model.count())
    common = means[known].mean(0)
    rows = np.where(np.isin(np.arange(len(means)), known)[:, None], means - common, -10 * common)
    length = float(np.linalg.norm(features, axis=1).mean()) or 1.0
    products, right = features @ rows[known].T, np.searchsorted(known, exemplars.y)
    losses = [-np.log(np.clip(softmax(products * scale / length)[np.arange(len(right)), right], 1e-12, None)).mean()
              for scale in _SCALES]  # fmt: skip
    scale = _SCALES[int(np.argmin(losses))] / length
    biases = np.full(len(rows), _NEVER)
    biases[known] = 0.0
    return rows * scale, biases
