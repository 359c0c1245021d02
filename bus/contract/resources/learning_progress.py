"""How far a job of incremental learning is: the state of its loop, its candidates, and its ended rounds."""

from typing import Annotated, Literal

from pydantic import Field

from heliograph.bus.contract.resources.base import Document, ShortText, WeightsRef
from heliograph.bus.contract.resources.dataset_use import DatasetUse
from heliograph.bus.contract.resources.label_queue import MAX_CLASSES, ClassName
from heliograph.bus.contract.resources.learning_tasks import MOST_MODELS, ShardRef
from heliograph.core.names import Digest, Label

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
        trouble: what its workers wait for, for people; empty where they wait for nothing.
    """

    step: Step = "waiting"
    round: int = 0
    waiting: int = 0
    deployed: Annotated[dict[Label, Digest], Field(max_length=MOST_MODELS)] = Field(default_factory=dict)
    metric: float | None = None
    last: LearningRound | None = None
    trouble: ShortText = ""
