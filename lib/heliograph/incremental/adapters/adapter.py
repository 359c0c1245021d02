"""The interface of an adapter: what incremental learning needs of a model, of any framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks import ModelAdapter
from heliograph.incremental.samples import in_blocks, plain

Array = np.ndarray[Any, Any]
Function = Callable[[Any], Any]
_SUM_WITHIN = 1e-3


@dataclass(frozen=True)
class WeightTerm:
    """``strength / 2`` times the sum of importance times squared distance from the anchor.

    Attributes:
        anchor, importance: arrays by the weights' names; of a grown head the part that was there.
    """

    anchor: Mapping[str, Array]
    importance: Mapping[str, Array]
    strength: float


@dataclass(frozen=True)
class ScoreTerm:
    """``strength`` times T squared times the mean divergence of the scores from the old model's.

    Attributes:
        old: gives the old model's logits of a batch.
        columns: the classes that the old model has learned.
        temperature: T.
    """

    old: Callable[[Any], Any]
    columns: Array
    temperature: float
    strength: float


@dataclass(frozen=True)
class Terms:
    """What the strategies add to the loss of a round."""

    weights: tuple[WeightTerm, ...] = ()
    scores: tuple[ScoreTerm, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.weights or self.scores)


class LearningAdapter(ABC):
    """A classifier: its weights, its scores, and its head, which grows.

    Args:
        predict: gives the scores (n, classes) of samples, logits or probabilities, or the index of each one's class; by
            default the model itself.
        features: gives the features (n, d) of samples on which the head works; by default what the head gets.
    """

    weights: ModelAdapter

    def __init__(self, predict: Function | None, features: Function | None) -> None:
        self._given_predict = predict
        self._given_features = features

    def prepare(self, classes: int, x: Array | None = None, arrays: Mapping[str, Array] | None = None) -> None:  # noqa: B027
        """Make a model that has no weights yet one for ``classes`` classes; called before anything else.

        Args:
            x, arrays: samples, or weights that it is to get; one of them is given.
        """

    @abstractmethod
    def count(self) -> int:
        """Return the number of classes of the head."""

    @abstractmethod
    def count_in(self, arrays: Mapping[str, Array]) -> int:
        """Return the number of classes of the head of such weights."""

    @abstractmethod
    def resize(self, classes: int, rng: np.random.Generator) -> None:
        """Give the head another number of classes, in place: the first ones keep their rows."""

    @abstractmethod
    def head(self) -> dict[str, Array]:
        """Return the head's weights, by their names in ``weights``."""

    @abstractmethod
    def with_rows(self, rows: Array, biases: Array) -> dict[str, Array]:
        """Return a head's weights that score a class by the product of its row (classes, d) and the features, plus its
        bias (classes) where the head has biases."""

    def scores(self, x: Array) -> Array:
        """Return scores (n, classes). Raise Refused where the model gives none."""
        found = self._predicted(x)
        if found.ndim != 2 or (len(x) and len(found) != len(x)):
            raise Refused("no-scores", field="predict", expected=f"a row of scores for each of {len(x)} samples",
                          got=f"shape {found.shape}")  # fmt: skip
        return found

    def logits(self, x: Array) -> Array:
        """Return scores before a softmax; of probabilities their logarithm."""
        return as_logits(self.scores(x))

    def answers(self, x: Array) -> Array:
        """Return the index of the class that the model gives to each sample."""
        if not len(x):
            return np.zeros(0, np.int64)
        found = self._predicted(x)
        if found.ndim == 2 and found.shape[1] > 1:
            return np.asarray(found.argmax(1))
        if found.size != len(x) or (found.dtype.kind == "f" and not (found == np.floor(found)).all()):
            raise Refused("bad-shape", field="predict", expected=f"a class or a row of scores for each of {len(x)} "
                          "samples", got=f"shape {found.shape}")  # fmt: skip
        return found.reshape(-1).astype(np.int64)

    def features(self, x: Array) -> Array:
        """Return the features (n, d) on which the head works."""
        run = self._given_features or self._features
        return np.concatenate([_flat(run(self._batch(block))) for block in in_blocks(x)])

    def write(self, changed: Mapping[str, Array]) -> None:
        """Write some of the weights."""
        if changed:
            self.weights.set({**self.weights.get(), **changed})

    def squared_gradients(self, x: Array, y: Array) -> dict[str, Array]:
        """Return the mean over samples of the squared gradient of each one's cross-entropy, by the weights' names.

        The square of a batch's mean gradient is another quantity, and near 0 where the model fits.
        """
        raise Refused("bad-argument", field="strategy", expected="a model whose gradients can be computed",
                      got=type(self).__name__, hint="EWC takes models of PyTorch and Keras, and dicts of arrays with "
                      "IncrementalLearning(gradients=...); replay takes every model.")  # fmt: skip

    @abstractmethod
    def frozen(self) -> Callable[[Any], Any]:
        """Return a function that gives the logits of samples as the model gives them now, whatever it learns later."""

    def penalty(self, terms: Terms, x: Any, scores: Any) -> Any:
        """Return what the strategies add to the loss of samples, as the framework's number.

        Args:
            x, scores: a batch and the model's logits of it; None where the caller has none.
        """
        raise Refused("bad-argument", field="strategy", expected="a model that trains with a loss of the script's own",
                      got=type(self).__name__, hint="EWC and LwF take models of PyTorch and Keras, and dicts of "
                      "arrays; replay takes every model.")  # fmt: skip

    def begin(self, terms: Terms) -> None:  # noqa: B027
        """Prepare the coming body, where the framework computes the loss by itself."""

    def end(self) -> None:  # noqa: B027
        """Undo what ``begin`` did."""

    def _predicted(self, x: Array) -> Array:
        run = self._given_predict or self._scores
        parts = [plain(run(self._batch(block))) for block in in_blocks(x)]
        return np.concatenate(parts) if parts else plain(run(self._batch(x)))

    def _batch(self, x: Array) -> Any:
        """Return samples as the model, and the user's functions, take them."""
        return x

    @abstractmethod
    def _scores(self, x: Any) -> Any: ...

    @abstractmethod
    def _features(self, x: Any) -> Any: ...


def as_logits(scores: Array) -> Array:
    """Return logits; scores that are probabilities become their logarithm."""
    found = scores.astype(np.float64)
    if len(found) and found.min() >= 0 and (abs(found.sum(1) - 1) < _SUM_WITHIN).all():
        return np.asarray(np.log(np.clip(found, 1e-12, None)))
    return found


def softmax(logits: Array, temperature: float = 1.0) -> Array:
    """Return probabilities (n, classes)."""
    found = logits / temperature
    found = np.exp(found - found.max(1, keepdims=True))
    return np.asarray(found / found.sum(1, keepdims=True))


def _flat(values: Any) -> Array:
    found = plain(values)
    return found.reshape(len(found), -1)
