"""The interface of a predictor: prepare one sample, predict samples that are alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from heliograph.incremental.class_names import labels_with
from heliograph.inference.predictors.outputs import ModelOutput, Prediction, Reading, predictions


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sample in the form that its model takes. Samples of one ``kind`` are predicted together."""

    value: Any
    kind: Hashable


class Predictor(ABC):
    """A model, and how its outputs are read."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._own_classes = reading.classes

    @abstractmethod
    def prepare(self, x: Any) -> Prepared:
        """Return one sample, without a batch axis, in the form that the model takes. Raise Refused if it has none."""

    def predict(self, samples: Sequence[Prepared]) -> list[Prediction]:
        """Return the prediction of each sample; they are of one kind.

        Raise Refused if the outputs cannot be read, ValueError if their number differs. Errors of the model propagate.
        """
        return predictions(self._outputs(samples), len(samples), self._reading)

    def name_classes(self, names: Sequence[str]) -> None:
        """Let the classes that a loaded version has beyond the script's own have the version's names."""
        self._reading = replace(self._reading, classes=labels_with(self._own_classes, names))

    def example(self) -> Prepared | None:
        """Return a sample of zeros of the shape that the model names as its input; None if it names none."""
        return None

    @abstractmethod
    def _outputs(self, samples: Sequence[Prepared]) -> ModelOutput:
        """Run the model on samples of one kind."""
