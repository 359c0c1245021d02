"""What a worker's task takes from a job of incremental learning: the rule of its gate, and its shards.

They lie apart from the job, so that a worker starts without the kinds that a job is made of.
"""

from typing import Annotated

from pydantic import Field

from heliograph.bus.contract.resources.base import Document, WeightsRef
from heliograph.bus.contract.resources.label_queue import MAX_CLASSES, ClassName
from heliograph.core.names import Label

MOST_MODELS = 4


class GateRule(Document):
    """What a candidate has to meet before it is deployed; ``heliograph.gate.Gate`` explains the fields."""

    margin: Annotated[float, Field(ge=-1, lt=1)] = 0.0
    confidence: Annotated[float, Field(ge=0.5, le=0.9999)] = 0.95
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    floors: Annotated[dict[ClassName, Annotated[float, Field(ge=0, le=1)]], Field(max_length=MAX_CLASSES)] = Field(
        default_factory=dict
    )
    most_lost: Annotated[float, Field(ge=0, le=1)] = 1.0
    least_support: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 200
    least_class_support: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 20


class ShardRef(Document):
    """A file of labelled samples, of which nothing changes any more.

    Attributes:
        number: place among the job's shards, from 1.
        round: the first round with a training that succeeded with it; 0 before: its samples are new.
        learned: the models whose deployed versions have learned it.
        held_out: whether its samples are the evaluation's, which no training sees.
        samples: number of samples.
        weights: the file: a safetensors file, as ``heliograph.incremental.shards`` writes it.
    """

    number: int
    round: int = 0
    held_out: bool = False
    samples: int
    weights: WeightsRef
    learned: Annotated[list[Label], Field(max_length=MOST_MODELS)] = Field(default_factory=list)
