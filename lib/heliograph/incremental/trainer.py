"""A model that learns on: its adapter, its strategies and its memory, round by round."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks.loading import Loader
from heliograph.incremental.adapters.adapter import Terms
from heliograph.incremental.memory import Memory
from heliograph.incremental.samples import Samples
from heliograph.incremental.training_round import TrainingRound

if TYPE_CHECKING:
    from heliograph.bus.contract.resources.base import Scalar
    from heliograph.bus.contract.weights_file import TensorFile
    from heliograph.incremental.adapters import LearningAdapter
    from heliograph.incremental.strategies import Strategy

Array = np.ndarray[Any, Any]


class Trainer:
    """Trains one model in rounds, and keeps it from forgetting.

    Args:
        force: let strategies that do not keep old classes learn new ones.
        seed: of what is drawn, together with the round's number: a round that is trained again draws the same.

    Attributes:
        memory: what is kept of the rounds so far.
    """

    def __init__(self, adapter: LearningAdapter, strategies: Sequence[Strategy], force: bool, seed: int) -> None:
        self.adapter = adapter
        self.memory = Memory()
        self._strategies = strategies
        self._loader = Loader(adapter.weights)
        self._force = force
        self._seed = seed

    def load(self, weights: TensorFile) -> None:
        """Write a version's weights into the model, and close their file. Its head gets the size that they have.

        Raise Refused where they do not fit.
        """
        arrays = weights.arrays()
        classes = self.adapter.count_in(arrays)
        self.adapter.prepare(classes, arrays=arrays)
        self.adapter.resize(classes, self._rng(0))
        self._loader.load(weights)

    def remember(self, known: Samples, number: int) -> None:
        """Keep what the strategies keep of samples that the model has learned before the first round."""
        for each in self._strategies:
            self.memory = each.finish(self.adapter, known, self.memory, self._rng(number))
        self.memory = self.memory.with_seen(known.classes)

    def train(
        self, number: int, new: Samples, *, classes: Sequence[str], local: bool = False,
        parameters: Mapping[str, Scalar] | None = None,
    ) -> Iterator[TrainingRound]:  # fmt: skip
        """Yield the round in which the caller trains the model, then keep what the strategies keep.

        Raise Refused where there is no sample, the strategies would forget, or the weights are not finite afterwards.
        """
        if not len(new):
            raise Refused("no-samples", field="x", expected="at least one labelled sample", got="none")
        rng, memory, adapter = self._rng(number), self.memory, self.adapter
        needed = max(len(classes), int(new.y.max()) + 1)
        adapter.prepare(needed, new.x)
        if adapter.count() == 1:
            raise Refused("bad-model", field="head", expected="a row for each class, 2 or more", got="one output",
                          hint="Let the model end with two units and a softmax, or logits, instead of one and a "
                          "sigmoid.")  # fmt: skip
        new_classes = [int(each) for each in new.classes if each not in memory.seen]
        if new_classes and memory.seen:
            self._check_new_classes(new_classes)
        for each in self._strategies:
            each.restore(adapter, memory)
        terms = self._terms(memory)
        adapter.resize(max(needed, adapter.count()), rng)
        keeps = any(each.keeps_samples for each in self._strategies)
        kept = (memory.samples if memory.samples is not None else new[:0]) if keeps else None
        adapter.begin(terms)
        try:
            yield TrainingRound(number, new, kept, adapter, terms, rng, classes=classes, new_classes=new_classes,
                                local=local, parameters=parameters)  # fmt: skip
        finally:
            adapter.end()
        self._check_finite()
        for each in self._strategies:
            memory = each.finish(adapter, new, memory, rng)
        self.memory = memory.with_seen(new.classes)

    def _terms(self, memory: Memory) -> Terms:
        weights = (each.weight_term(self.adapter, memory) for each in self._strategies)
        scores = (each.score_term(self.adapter, memory) for each in self._strategies)
        return Terms(tuple(each for each in weights if each), tuple(each for each in scores if each))

    def _check_new_classes(self, new_classes: Sequence[int]) -> None:
        """Raise Refused, or warn, where the old classes would be forgotten."""
        names = " and ".join(type(each).__name__ for each in self._strategies)
        if not self._strategies:
            warnings.warn(f"training on the new classes {_few(new_classes)} without replay forgets the old ones: "
                          "strategy=Replay(1000) keeps them", stacklevel=4)  # fmt: skip
        elif not any(each.keeps_classes for each in self._strategies):
            if self._force:
                return
            raise Refused("forgets-classes", field="strategy", expected="replay beside it, since the samples have new "
                          f"classes ({_few(new_classes)})", got=f"{names} alone, which forgets the old ones",
                          hint=f"strategy=[Replay(1000), {names}()], or force=True.")  # fmt: skip
        elif self.memory.samples is None:
            warnings.warn(f"the memory has no exemplars of the classes that the model knows, and the new classes "
                          f"{_few(new_classes)} displace them: give rounds(x, y) the samples that it was trained on",
                          stacklevel=4)  # fmt: skip

    def _check_finite(self) -> None:
        for name, array in self.adapter.weights.get().items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise Refused("not-finite", field=name, expected="finite weights after the round",
                              got="NaN or infinity", hint="The training has diverged: lower the learning "
                              "rate.")  # fmt: skip

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, number])


def _few(classes: Sequence[int]) -> str:
    return ", ".join(map(str, classes[:10])) + (" …" if len(classes) > 10 else "")
