"""One round of incremental learning, as the script sees it: the samples to train on, and what is added to the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np

from heliograph.core.errors import Refused
from heliograph.incremental.adapters.arrays import ArraysAdapter
from heliograph.incremental.samples import Samples, balanced, joined, without
from heliograph.metrics import Metrics

if TYPE_CHECKING:
    from heliograph.bus.contract.resources.base import Scalar
    from heliograph.incremental.adapters import LearningAdapter
    from heliograph.incremental.adapters.adapter import Terms

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one step, which unpack as ``x, y``: x (size, ...), y (size) int64."""

    x: Array
    y: Array

    def __iter__(self) -> Iterator[Array]:
        return iter((self.x, self.y))

    def __len__(self) -> int:
        return len(self.y)


class TrainingRound:
    """One turn of the loop over ``rounds()``.

    Attributes:
        number: number of the round, from 1; in a job that of the job's round.
        local: True outside a job.
        classes: the classes' names by their index; empty where they have none.
        new_classes: indices of the classes that no round before has trained.
        new: the new samples alone.
        all: the new samples and, with replay, the exemplars: each once, in no order to train in.
        parameters: the job's parameters.
        metrics: the metrics reported so far.
    """

    def __init__(
        self, number: int, new: Samples, kept: Samples | None, model: LearningAdapter, terms: Terms,
        rng: np.random.Generator, *, classes: Sequence[str] = (), new_classes: Sequence[int] = (), local: bool = False,
        parameters: Mapping[str, Scalar] | None = None,
    ) -> None:  # fmt: skip
        self.number = number
        self.local = local
        self.classes = list(classes)
        self.new_classes = list(new_classes)
        self.new = new
        self.parameters = dict(parameters or {})
        self.metrics = Metrics("report")
        self._replays = kept is not None
        # a sample that is labelled anew is new: its old label is not replayed
        self.all = joined([without(kept, new), new]) if kept is not None else new
        self._model = model
        self._terms = terms
        self._rng = rng

    @property
    def x(self) -> Array:
        """The samples to train on (n, ...): the new ones and, with replay, the exemplars. Samples of rare classes occur
        several times then, so that every class occurs as often as the others."""
        return self._drawn.x

    @property
    def y(self) -> Array:
        """The index of the class of each sample of ``x``: (n) int64."""
        return self._drawn.y

    @cached_property
    def _drawn(self) -> Samples:
        return self.all[self._order()]

    def batches(self, size: int, steps: int | None = None) -> Iterator[Batch]:
        """Iterate over batches of the samples of ``x``, without a copy of them all.

        Args:
            size: samples of a batch.
            steps: number of batches; by default as many as one pass over ``x`` has.

        Raises:
            Refused: if a number is not 1 or more.
        """
        for name, value in (("size", size), ("steps", steps)):
            if value is not None and (type(value) is not int or value < 1):
                raise Refused("bad-argument", field=name, expected="a whole number, 1 or more", got=value)
        return self._batches(size, steps)

    def report(self, **metrics: SupportsFloat | list[Any]) -> None:
        """Report metrics of the round: ``round.report(loss=0.1)``. What is no finite number is left out with a
        warning."""
        self.metrics.add(metrics)

    def penalty(self, x: Any = None, scores: Any = None) -> Any:
        """Return what the strategies EWC and LwF add to the loss of a batch, as a number of the model's framework.

            loss = cross_entropy(scores, y) + round.penalty(x, scores)

        Keras' ``fit`` adds it by itself.

        Args:
            x, scores: the batch and the model's logits of it, which LwF needs.

        Raises:
            Refused: if LwF is used and one of them is missing, or for a model of scikit-learn.
        """
        if self._terms.scores and (x is None or scores is None):
            raise Refused("bad-argument", field="penalty", expected="the batch and the model's scores of it, for LwF",
                          got="none", hint="loss = cross_entropy(scores, y) + round.penalty(x, scores)")  # fmt: skip
        return self._model.penalty(self._terms, x, scores)

    def weight_gradients(self) -> dict[str, Array]:
        """Return the gradient of EWC's penalty on the weights of a dict of arrays, by name: add it to your own."""
        return self._arrays().weight_gradients(self._terms)

    def score_gradients(self, x: Array, scores: Array) -> Array:
        """Return the gradient of LwF's penalty on the logits (n, classes) of a batch, for a dict of arrays: add it to
        your own gradient of the batch's mean loss."""
        return self._arrays().score_gradients(self._terms, x, scores)

    def _arrays(self) -> ArraysAdapter:
        if not isinstance(self._model, ArraysAdapter):
            raise Refused("bad-argument", field="model", expected="a dict of arrays, whose gradients the script "
                          "computes", got=type(self._model).__name__,
                          hint="loss = cross_entropy(scores, y) + round.penalty(x, scores)")  # fmt: skip
        return self._model

    def _order(self) -> Array:
        """Return places of the samples, shuffled; with replay each class as often as the others."""
        y = self.all.y
        return balanced(y, self._rng) if self._replays else self._rng.permutation(len(y))

    def _batches(self, size: int, steps: int | None) -> Iterator[Batch]:
        order = self._order()
        left = math.ceil(len(order) / size) if steps is None else steps
        start = 0
        while left:
            if start and start + size > len(order) and (steps is not None or start >= len(order)):
                order, start = self._order(), 0
            chosen = order[start : start + size]
            yield Batch(self.all.x[chosen], self.all.y[chosen])
            start += size
            left -= 1
