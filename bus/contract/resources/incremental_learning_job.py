"""IncrementalLearningJob: a model improves from what it was unsure of, round by round: train, evaluate, deploy."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from heliograph.bus.contract.resources.base import (
    Condition,
    Document,
    Reference,
    Resource,
    RunsCode,
    ShortText,
)
from heliograph.bus.contract.resources.canary import Canary
from heliograph.bus.contract.resources.edge_selection import EdgeSelection
from heliograph.bus.contract.resources.learning_progress import EdgeLearning, LearningRound, LoopState
from heliograph.bus.contract.resources.learning_tasks import MOST_MODELS, GateRule
from heliograph.bus.contract.resources.node_resources import Priority
from heliograph.bus.contract.resources.triggers import Triggers
from heliograph.bus.contract.resources.worker_spec import WorkerSpec
from heliograph.core.names import CLOUD, Label

LearningPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Stopped"]
LEARNING_ENDED: tuple[LearningPhase, ...] = ("Succeeded", "Failed", "Stopped")


class LearnedModel(Document):
    """A model that the job trains, and the script that trains it.

    Attributes:
        worker_spec: script, parameters, seed data set and resources of the training worker.
        node_name: node that trains and evaluates it. Where the job's location is ``edge``, each of its edges does.
    """

    model: Reference
    node_name: Label = CLOUD
    worker_spec: WorkerSpec


class EvaluationRule(Document):
    """What a candidate is measured on: labelled samples that no training sees, chosen by the hash of the sample.

    Attributes:
        held_out: per cent of the labelled samples.
        salt: name of the division; another salt divides the same samples anew.
        metric: the metric that the stop condition and people look at: ``accuracy``, or one that the script gives.
    """

    held_out: Annotated[int, Field(ge=1, le=90, strict=True)] = 20
    salt: Annotated[str, Field(max_length=64)] = ""
    metric: ShortText = "accuracy"


class DeployRule(Document):
    """Where and how a candidate that has passed its gate is deployed.

    Attributes:
        edges: with the location ``edge``, the edges that train and serve their own models. In the cloud the services
            that run the model decide.
        canary: without one the candidate answers all requests at once.
    """

    edges: EdgeSelection = Field(default_factory=lambda: EdgeSelection(all=True))
    canary: Canary | None = None


class StopCondition(Document):
    """When the job has succeeded; without any it runs until it is stopped.

    Attributes:
        rounds: ended rounds.
        metric: value of the evaluation's metric that the champion reaches.
        seconds: since the job began.
    """

    rounds: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None
    metric: float | None = None
    seconds: Annotated[float, Field(gt=0, le=3650 * 86400)] | None = None


class IncrementalLearningJobSpec(Document):
    """The models to improve, where their labels come from, and when each step of a round begins.

    Attributes:
        location: ``cloud``: samples are labelled, and models trained, in the cloud; ``edge``: each edge labels, trains,
            evaluates and deploys by itself, with or without a link, and only metrics leave the node.
        labels: the LabelQueue whose settled labels are learned; by default the one of the job's name.
        hard_sample_rule: is the service's: its ``hardSamplesTo`` names this job.
        train: when a round begins.
        evaluate: when the candidate is evaluated; without it at once.
        deploy: when a candidate that has passed its gate is deployed; without it at once.
        attempts: times that a training or an evaluation is begun before the round fails.
        step_deadline_seconds: seconds after which a training or an evaluation that has not ended counts as hanging.
    """

    models: Annotated[list[LearnedModel], Field(min_length=1, max_length=MOST_MODELS)]
    location: Literal["cloud", "edge"] = "cloud"
    labels: Reference | None = None
    train: Triggers = Field(default_factory=Triggers)
    evaluate: Triggers | None = None
    deploy: Triggers | None = None
    evaluation: EvaluationRule = Field(default_factory=EvaluationRule)
    gate: GateRule = Field(default_factory=GateRule)
    deployment: DeployRule = Field(default_factory=DeployRule)
    stop: StopCondition = Field(default_factory=StopCondition)
    attempts: Annotated[int, Field(ge=1, le=100, strict=True)] = 3
    step_deadline_seconds: Annotated[float, Field(gt=0, le=31 * 86400)] = 3600.0
    priority: Priority = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [each.model.name for each in self.models]
        if len(set(names)) < len(names):
            raise ValueError("two entries of models name the same model")
        if not all(each.worker_spec.names_code for each in self.models):
            raise ValueError("a model's workerSpec names no trainScriptBootFile, no algorithm and no script in an "
                             "image")  # fmt: skip
        return self


class IncrementalLearningJobStatus(Document):
    """The progress of a job. ``loop`` is the state machine; the other fields are for people.

    Attributes:
        waiting: labelled samples that no training has used yet.
        labelled: labelled samples in all.
        rounds: the last ended rounds, oldest first.
        metric: the evaluation's metric of the champion; absent before the first evaluation.
        asked: with the location ``edge``, how often each step was asked for by hand.
        candidates_from, verdicts_from: sequences in their streams at which the present round starts.
        edges: with the location ``edge``, the first edges by name.
    """

    phase: LearningPhase = "Pending"
    loop: LoopState = Field(default_factory=LoopState)
    waiting: int = 0
    labelled: int = 0
    rounds: list[LearningRound] = Field(default_factory=list)
    metric: float | None = None
    asked: Annotated[dict[ShortText, int], Field(max_length=3)] = Field(default_factory=dict)
    candidates_from: int = 1
    verdicts_from: int = 1
    edges: dict[str, EdgeLearning] = Field(default_factory=dict)
    conditions: list[Condition] = Field(default_factory=list)
    start_time: str = ""
    completion_time: str = ""


class IncrementalLearningJob(Resource):
    """``kind: IncrementalLearningJob``."""

    plural: ClassVar[str] = "incremental-jobs"

    kind: Literal["IncrementalLearningJob"] = "IncrementalLearningJob"
    spec: IncrementalLearningJobSpec
    status: IncrementalLearningJobStatus = Field(default_factory=IncrementalLearningJobStatus)

    @property
    def queue(self) -> str:
        """The name of the label queue whose labels it learns."""
        return self.spec.labels.name if self.spec.labels is not None else self.name

    @property
    def listed_workers(self) -> int:
        return 0 if self.status.phase in LEARNING_ENDED else len(self.spec.models)

    @property
    def code_workers(self) -> Mapping[str, RunsCode]:
        models = self.spec.models if self.status.phase not in LEARNING_ENDED else ()
        return {f"spec.models[{number}].workerSpec": each.worker_spec for number, each in enumerate(models)}
