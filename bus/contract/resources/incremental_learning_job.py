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
    WeightsRef,
)
from heliograph.bus.contract.resources.canary import Canary
from heliograph.bus.contract.resources.federated_task import WorkerSpec
from heliograph.bus.contract.resources.joint_inference_service import EdgeSelection
from heliograph.bus.contract.resources.label_queue import MAX_CLASSES, ClassName
from heliograph.bus.contract.resources.learning_tasks import MOST_MODELS, GateRule, ShardRef
from heliograph.bus.contract.resources.model import DatasetUse
from heliograph.bus.contract.resources.node_resources import Priority
from heliograph.bus.contract.resources.triggers import Triggers
from heliograph.core.names import CLOUD, Digest, Label

LearningPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Stopped"]
LEARNING_ENDED: tuple[LearningPhase, ...] = ("Succeeded", "Failed", "Stopped")
Step = Literal["waiting", "training", "trained", "evaluating", "evaluated", "canary", "watching"]
"""``waiting`` for samples; ``training``; ``trained``: waits for the trigger of the evaluation; ``evaluating``;
``evaluated``: waits for the trigger of the deployment; ``canary``: the candidate answers a share of the requests;
``watching``: it answers all, and may still be rolled back."""
CandidateStep = Literal["training", "trained", "failed", "refused", "passed", "canary", "deployed", "rolled-back"]
AskedStep = Literal["training", "evaluation", "deployment"]
Decision = Literal["deployed", "refused", "undecided", "failed", "rolled-back"]
ROUNDS_KEPT = 50
"""Ended rounds that a status keeps."""
MOST_SHARDS = 1024
"""Shards of labelled samples that a job refers to, at most."""


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
        if any(each.worker_spec.train_script_boot_file is None and each.worker_spec.algorithm is None
               for each in self.models):  # fmt: skip
            raise ValueError("a model's workerSpec names no trainScriptBootFile and no algorithm")
        return self


class ClassRecall(Document):
    """The share of a class's held-out samples that each model gets right."""

    support: int
    champion: float
    candidate: float


class GateFigures(Document):
    """The verdict of the gate on a candidate, and the figures behind it.

    Attributes:
        evaluation: version of the evaluation set.
        support: its samples.
        gain: accuracy of the candidate minus the champion's.
        bound: the gain lies above it, with the gate's confidence.
        classes: recall by class.
        metrics: what the script's own measure says of the candidate; ``champion_metrics`` of the champion.
    """

    decision: Literal["passes", "fails", "undecided"]
    reasons: list[ShortText] = Field(default_factory=list, max_length=100)
    evaluation: ShortText = ""
    support: int = 0
    champion: float = 0.0
    candidate: float = 0.0
    gain: float = 0.0
    bound: float = 0.0
    classes: Annotated[dict[str, ClassRecall], Field(max_length=MAX_CLASSES)] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict, max_length=64)
    champion_metrics: dict[str, float] = Field(default_factory=dict, max_length=64)


class CandidateState(Document):
    """What a round has made of one model.

    Attributes:
        base: digest of the weights that the training started from; empty where it started from none.
        weights, memory: the candidate, and the exemplars that its training kept.
        version: number of the registered version, once it has passed.
        attempt: counts the starts of training or evaluation in this round.
        reason: why it failed, was refused or rolled back.
    """

    step: CandidateStep = "training"
    base: str = ""
    weights: WeightsRef | None = None
    memory: WeightsRef | None = None
    samples: int = 0
    metrics: dict[str, float] = Field(default_factory=dict, max_length=64)
    verdict: GateFigures | None = None
    version: int | None = None
    attempt: int = 1
    reason: ShortText = ""


class LoopState(Document):
    """The state machine of the loop: all that a successor needs to go on.

    Attributes:
        step_since: time at which the step began.
        trigger: why the round began, in a sentence.
        candidates: model name to what the round has made of it.
        classes: the classes by their index; an index is never used again, a class that is gone keeps it.
        memory: model name to the exemplars that the last deployed training kept.
        champions: model name to the digest of the version that the loop last deployed.
        looked: step to the time of the last look of its trigger, for ``checkSeconds``.
        trained_at, evaluated_at, deployed_at: times at which these steps last began.
        asked: steps that somebody has asked for by hand, in place of their triggers.
        next_shard: number of the next shard; numbers are never used again.
        failures: rounds that have failed one after the other; ``not_before`` is when the next may begin.
        metrics: of the first model's champion as it was last measured; ``deployed_metrics`` as they were when it was
            deployed.
    """

    step: Step = "waiting"
    step_since: str = ""
    round: int = 0
    trigger: ShortText = ""
    candidates: Annotated[dict[Label, CandidateState], Field(max_length=MOST_MODELS)] = Field(default_factory=dict)
    shards: Annotated[list[ShardRef], Field(max_length=MOST_SHARDS)] = Field(default_factory=list)
    classes: Annotated[list[ClassName], Field(max_length=MAX_CLASSES)] = Field(default_factory=list)
    schema_version: int = 0
    memory: Annotated[dict[Label, WeightsRef], Field(max_length=MOST_MODELS)] = Field(default_factory=dict)
    champions: Annotated[dict[Label, Digest], Field(max_length=MOST_MODELS)] = Field(default_factory=dict)
    looked: Annotated[dict[ShortText, str], Field(max_length=3)] = Field(default_factory=dict)
    trained_at: str = ""
    evaluated_at: str = ""
    deployed_at: str = ""
    asked: list[AskedStep] = Field(default_factory=list, max_length=3)
    next_shard: int = 1
    failures: int = 0
    not_before: str = ""
    metrics: dict[str, float] = Field(default_factory=dict, max_length=64)
    deployed_metrics: dict[str, float] = Field(default_factory=dict, max_length=64)


class ModelOutcome(Document):
    """How a round ended for one model."""

    decision: Decision
    version: int | None = None
    digest: str = ""
    reason: ShortText = ""
    samples: int = 0
    metrics: dict[str, float] = Field(default_factory=dict, max_length=64)
    verdict: GateFigures | None = None


class LearningRound(Document):
    """An ended round.

    Attributes:
        samples: new labelled samples that its training used.
        evaluation_set: the version of the samples that its gate measured with.
    """

    round: int
    trigger: ShortText = ""
    samples: int = 0
    models: Annotated[dict[Label, ModelOutcome], Field(max_length=MOST_MODELS)] = Field(default_factory=dict)
    evaluation_set: DatasetUse | None = None
    began: str = ""
    ended: str = ""


class EdgeLearning(Document):
    """The loop of one edge, as its agent reports it: the location is ``edge``.

    Attributes:
        waiting: labelled samples that no training has used yet.
        deployed: model name to the digest of the version that serves on the edge.
        metric: the evaluation's metric of that version.
    """

    step: Step = "waiting"
    round: int = 0
    waiting: int = 0
    deployed: Annotated[dict[Label, Digest], Field(max_length=MOST_MODELS)] = Field(default_factory=dict)
    metric: float | None = None
    last: LearningRound | None = None
    trouble: ShortText = ""


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
