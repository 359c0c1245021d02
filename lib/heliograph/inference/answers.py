"""A sample on its way through the edge's side of joint inference: judged, kept or let go, answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from heliograph.inference.predictors import Prediction, Predictor


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        result: the label, or the value of a regression; what ``after`` makes of the scores, where it is given.
        scores: the row of scores of the model that answered; None for a model that gives labels or values.
        by: the side that answered.
        degraded: True if the sample was hard and the edge answered it.
        seconds: time from the request to the answer.
        version: digest of the version of the edge's model that saw the sample; empty for the script's own weights.
    """

    result: Any
    scores: Any
    by: Literal["edge", "cloud"]
    degraded: bool
    seconds: float
    version: str = ""


class Withheld:
    """Stands for a sample that must not leave the node, and says why."""

    def __init__(self, why: str) -> None:
        self.why = why


@dataclass(frozen=True, slots=True)
class Judged:
    """A sample with the edge's prediction; ``began`` and the deadline ``until`` are in monotonic seconds.

    Attributes:
        leaves: what may leave the node of a hard sample: the sample itself without a ``redact`` hook, what the hook
            made of it, or Withheld.
        version: digest of the version that made the prediction; empty for the script's own weights.
    """

    x: Any
    prediction: Prediction
    hard: bool
    began: float
    until: float
    leaves: Any = None
    version: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that answers some of the requests beside the one that serves.

    Attributes:
        version: digest of its weights.
        share: of the requests: those whose place is below it.
    """

    version: str
    predictor: Predictor
    share: float
