"""Payloads of pair training: what a worker has selected, trained and measured."""

from typing import Annotated

from pydantic import Field

from heliograph.bus.contract.payloads.base import Count, EdgeName, Metrics, Payload, Text
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.resources.label_queue import MAX_CLASSES, ClassName
from heliograph.bus.contract.resources.pair_plan import PairFigures, PairStep, SelectionFigures
from heliograph.core.names import Label


class PairResult(Payload):
    """What a step of a pair's training has made.

    Attributes:
        round: the turn of the task that it answers.
        weights: of a training the model; of a selection the file that says which public samples were selected.
        selected: figures of a selection.
        figures: what was measured of the pair.
        classes: the classes by their index in the models' scores, where the script or the job names them.
        num_samples: number of samples that were trained on.
        seconds: from the first training step to the last.
    """

    job: Label
    job_uid: Text
    round: int
    step: PairStep
    edge: EdgeName
    weights: WeightsRef | None = None
    selected: SelectionFigures | None = None
    figures: PairFigures | None = None
    classes: Annotated[list[ClassName], Field(max_length=MAX_CLASSES)] = Field(default_factory=list)
    num_samples: Count = 0
    metrics: Metrics = Field(default_factory=dict)
    seconds: Annotated[float, Field(ge=0, le=1e9)] = 0.0
