"""One turn of the loop over ``parts()``: a model of the pair, and what it is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np

from heliograph.core.errors import Refused
from heliograph.incremental.samples import plain
from heliograph.inference.pairs.distillation import distillation, soft_targets
from heliograph.inference.pairs.objectives import class_weights
from heliograph.metrics import Metrics

if TYPE_CHECKING:
    from heliograph.bus.contract.resources.base import Scalar
    from heliograph.bus.contract.resources.pair_plan import Distillation, Objective, Side
    from heliograph.incremental.samples import Samples

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Samples of one step.

    Attributes:
        x: (size, ...); ``y``: (size) int64.
        teacher: the deep model's logits (size, classes); None where the labels alone teach.
        class_weights: weight of each class in the labels' part of the loss.
        rule: temperature and share of the softened scores.
    """

    x: Array
    y: Array
    teacher: Array | None
    class_weights: Array
    rule: Distillation

    def __len__(self) -> int:
        return len(self.y)

    def loss(self, logits: Any) -> tuple[float, Array]:
        """Return the loss of the model's logits (size, classes), and its gradient with respect to them.

        PyTorch propagates it by ``logits.backward(torch.from_numpy(gradient))``, and a NumPy model by itself.
        """
        found = plain(logits)
        if self.teacher is None:
            return distillation(found, found, self.y, share=0.0, class_weights=self.class_weights)
        return distillation(found, self.teacher, self.y, temperature=self.rule.temperature, share=self.rule.share,
                            class_weights=self.class_weights)  # fmt: skip


class PairPart:
    """One model of the pair in training.

    Attributes:
        side: ``cloud``: the deep model, which comes first; ``edge``: the shallow one.
        model: the model to train, as the script gave it.
        x: the samples (n, ...): the developer's own and similar public ones.
        y: (n) int64, the index of each one's class.
        classes: number of classes; ``names`` are theirs, empty where they have none.
        objective: what it is trained for, ``recall`` or ``precision``.
        class_weights: weight of each class in the loss, (classes); the mean over the samples is 1.
        teacher: the deep model's logits (n, classes) of the samples; None in its own training.
        local: True outside a job.
        parameters: the job's parameters.
        metrics: the metrics reported so far.
    """

    def __init__(
        self, side: Side, model: Any, samples: Samples, classes: int, rule: Objective, distilled: Distillation,
        teacher: Array | None, rng: np.random.Generator, *, names: list[str], local: bool,
        parameters: Mapping[str, Scalar],
    ) -> None:  # fmt: skip
        self.side = side
        self.model = model
        self.x = samples.x
        self.y = samples.y
        self.classes = classes
        self.names = names
        self.objective = rule.objective
        self.class_weights = class_weights(samples.y, classes, rule.objective, rule.strength)
        self.teacher = teacher
        self.distillation = distilled
        self.local = local
        self.parameters = dict(parameters)
        self.metrics = Metrics("report")
        self._rng = rng

    def __len__(self) -> int:
        return len(self.y)

    @property
    def sample_weights(self) -> Array:
        """The weight of each sample, (n): for a model's own ``fit``."""
        return np.asarray(self.class_weights[self.y])

    @property
    def targets(self) -> Array:
        """Probabilities (n, classes) to learn: the share of the deep model's softened scores, and the labels as one-hot
        rows for the rest. For a model's own ``fit``."""
        sure = np.eye(self.classes)[self.y]
        if self.teacher is None:
            return sure
        share = self.distillation.share
        return np.asarray(share * soft_targets(self.teacher, self.distillation.temperature) + (1 - share) * sure)

    def batches(self, size: int, passes: int = 1) -> Iterator[PairBatch]:
        """Iterate over shuffled batches of the samples.

        Args:
            size: samples of a batch; the last of a pass may have fewer.
            passes: times that every sample comes.

        Raises:
            Refused: if a number is not 1 or more.
        """
        for name, value in (("size", size), ("passes", passes)):
            if type(value) is not int or value < 1:
                raise Refused("bad-argument", field=name, expected="a whole number, 1 or more", got=value)
        return self._batches(size, passes)

    def report(self, **metrics: SupportsFloat | list[Any]) -> None:
        """Report metrics of the training: ``part.report(loss=0.1)``. What is no finite number is left out with a
        warning."""
        self.metrics.add(metrics)

    def _batches(self, size: int, passes: int) -> Iterator[PairBatch]:
        for _ in range(passes):
            order = self._rng.permutation(len(self.y))
            for start in range(0, len(order), size):
                chosen = order[start : start + size]
                teacher = self.teacher[chosen] if self.teacher is not None else None
                yield PairBatch(self.x[chosen], self.y[chosen], teacher, self.class_weights, self.distillation)
