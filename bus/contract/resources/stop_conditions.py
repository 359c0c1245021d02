"""When a federated task ends before its last round, and which of its models is the best."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from heliograph.bus.contract.resources.base import Document, WeightsRef

MetricName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
MetricMode = Literal["max", "min"]
"""Whether a metric is better the higher it is, or the lower."""


class MetricTarget(Document):
    """A metric has reached a value: ``{metric: accuracy, atLeast: 0.97}`` or ``{metric: loss, atMost: 0.1}``."""

    metric: MetricName
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("expected either atLeast or atMost")
        return self


class Plateau(Document):
    """A metric improves no more, as Keras' ``EarlyStopping`` has it.

    Attributes:
        mode: ``max`` where a higher value is better, ``min`` where a lower one is.
        patience: measured rounds in a row without an improvement, after which the task ends.
        min_delta: how far beyond the best value so far a value has to be, to be an improvement.
    """

    metric: MetricName
    mode: MetricMode
    patience: Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
    min_delta: Annotated[float, Field(ge=0, le=1e300)] = 0.0


class StopConditions(Document):
    """Conditions, of which any ends the task as ``Succeeded``; ``rounds`` stays the most that there are.

    Metrics are those of the evaluation where the task has an evaluation worker, else the means of the counted updates.

    Attributes:
        target: a metric has reached a value.
        plateau: a metric improves no more.
        wall_time_seconds: seconds since the task began, or was started again. The open round is given up.
        uplink_bytes: bytes of updates that have come, also of those that were not counted.
    """

    target: MetricTarget | None = None
    plateau: Plateau | None = None
    wall_time_seconds: Annotated[float, Field(gt=0, le=366 * 86400)] | None = None
    uplink_bytes: Annotated[int, Field(ge=1, le=1 << 53, strict=True)] | None = None

    @model_validator(mode="after")
    def _has_any(self) -> Self:
        if all(each is None for each in (self.target, self.plateau, self.wall_time_seconds, self.uplink_bytes)):
            raise ValueError("expected at least one of target, plateau, wallTimeSeconds and uplinkBytes")
        return self


class PlateauState(Document):
    """What has been seen of a plateau's metric.

    Attributes:
        best, best_round: its best value so far, and the round of it.
        round: the newest round that was measured.
        waited: measured rounds since without an improvement.
    """

    metric: MetricName
    mode: MetricMode
    best: float
    best_round: int
    round: int
    waited: int = 0


class StopReason(Document):
    """The stop condition that has ended a task, as its condition ``Complete`` says it."""

    reason: str
    message: str


class BestBy(Document):
    """The metric by which one of a task's global models is the best.

    Attributes:
        mode: ``max`` where a higher value is better, ``min`` where a lower one is.
    """

    metric: MetricName
    mode: MetricMode


class BestModel(Document):
    """The best global model of a task so far.

    Attributes:
        metric, mode: by which it is the best.
        value: what it has of the metric.
        round: the round that closed with it.
        metrics: all metrics of the round.
    """

    metric: MetricName
    mode: MetricMode
    value: float
    round: int
    model: WeightsRef
    metrics: dict[str, float] = Field(default_factory=dict)


class EvaluatedModel(Document):
    """An earlier global model whose evaluation has not come yet."""

    round: int
    model: WeightsRef
