"""Payloads of incremental learning: candidates, verdicts, and the loops that edges run by themselves."""

from typing import Annotated

from pydantic import Field

from heliograph.bus.contract.payloads.base import Count, EdgeName, Metrics, Payload, Text
from heliograph.bus.contract.payloads.task_parts import PackageSpec
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.resources.incremental_learning_job import IncrementalLearningJobSpec
from heliograph.bus.contract.resources.label_queue import MAX_CLASSES, ClassName
from heliograph.bus.contract.resources.learning_progress import EdgeLearning, GateFigures
from heliograph.core.names import Digest, Label


class Candidate(Payload):
    """The weights that a training has made.

    Attributes:
        model: name of the model.
        attempt: of the task that it answers.
        base: digest of the weights that the training started from; absent where it started from none.
        memory: the exemplars that later trainings replay; absent where the script keeps none.
        classes: the classes by their index in the model's scores.
        num_samples: number of new samples that it trained on.
        seconds: from the first training step to the last.
    """

    job: Label
    job_uid: Text
    round: int
    attempt: int
    edge: EdgeName
    model: Label
    base: Digest | None = None
    weights: WeightsRef
    memory: WeightsRef | None = None
    classes: Annotated[list[ClassName], Field(max_length=MAX_CLASSES)] = Field(default_factory=list)
    num_samples: Count = 0
    metrics: Metrics = Field(default_factory=dict)
    seconds: Annotated[float, Field(ge=0, le=1e9)] = 0.0


class VerdictReport(Payload):
    """What the gate says of a candidate, measured on held-out samples on its node.

    Attributes:
        candidate, champion: digests of the two models; without a champion the candidate is measured alone.
    """

    job: Label
    job_uid: Text
    round: int
    attempt: int
    edge: EdgeName
    model: Label
    candidate: Digest
    champion: Digest | None = None
    figures: GateFigures


class EdgeLoop(Payload):
    """A job whose loop the edge's agent runs by itself.

    Attributes:
        uid: of the resource.
        queue: name of the label queue on the edge.
        generation: of the resource; a higher one brings a changed spec.
        models: model name to the version to start from, and to serve before the first one of the edge's own.
        services: model name to the services that run it: once the edge has a version of its own, they serve that.
        packages: model name to the package that its worker runs in place of a script on the node.
        asked: counts the requests for a step by hand, by step; a higher count asks once more.
        stopped: whether the job is stopped: the loop stays as it is, and what it has deployed serves on.
    """

    uid: Text
    queue: Label
    spec: IncrementalLearningJobSpec
    generation: int = 0
    models: dict[Label, WeightsRef] = Field(default_factory=dict)
    services: dict[Label, list[Label]] = Field(default_factory=dict)
    packages: dict[Label, PackageSpec] = Field(default_factory=dict)
    asked: dict[Text, int] = Field(default_factory=dict, max_length=8)
    stopped: bool = False


class LoopReport(Payload):
    """The loop of one job on an edge. ``generation`` is that of the spec that the agent follows."""

    uid: Text
    generation: int = 0
    state: EdgeLearning = Field(default_factory=EdgeLearning)
