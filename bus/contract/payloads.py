"""What each topic carries, as typed models.

Field names are snake_case on the wire; resources keep Kubernetes' camelCase.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from heliograph.bus.contract.resources.base import Scalar, WeightsRef
from heliograph.bus.contract.resources.dataset import DatasetIndex, DatasetSpec
from heliograph.core.names import Digest, Label

Text = Annotated[str, StringConstraints(max_length=4096)]
EdgeName = Label
Count = Annotated[int, Field(ge=0)]
Bucket = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}$")]
Metrics = Annotated[dict[Annotated[str, StringConstraints(max_length=128)], float], Field(max_length=64)]


class Payload(BaseModel):
    """Base of what topics carry: unknown fields refused, no NaN or infinity in a number."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)


class Generation(Payload):
    """A place in the order of desired documents: a new coordinator's epoch is above every earlier one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epoch: Annotated[int, Field(ge=0)] = 0
    n: Annotated[int, Field(ge=0)] = 0

    @property
    def order(self) -> tuple[int, int]:
        return (self.epoch, self.n)

    def __str__(self) -> str:
        return f"{self.epoch}.{self.n}"


class ScriptSpec(Payload):
    """The user's code, named; the agent runs it only where it lies under one of its ``--code`` roots."""

    directory: Text = ""
    boot_file: Text


class RoundSpec(Payload):
    """One round, as the aggregation worker is asked to close it.

    Attributes:
        participants: the edges that were asked.
        reachable: those of them that the broker holds a connection of.
        quorum: close as soon as so many updates have passed the checks.
        samples: how many samples an edge's data set has, where known: the bound of its ``num_samples``.
        start: where in the stream of updates this round's begin.
    """

    participants: list[EdgeName]
    reachable: list[EdgeName]
    quorum: int | None = None
    deadline_seconds: float
    samples: dict[EdgeName, int] = Field(default_factory=dict)
    start: int = 1


class InferenceSpec(Payload):
    """How an inference worker answers; the fields are those of JointInferenceServiceSpec."""

    rule: Text = "threshold"
    rule_parameters: dict[str, Scalar] = Field(default_factory=dict)
    temperature: Annotated[float, Field(gt=0)] = 1.0
    deadline_seconds: Annotated[float, Field(gt=0)] = 0.5
    requests_per_second: float | None = None
    bytes_per_second: float | None = None
    fallback: Literal["edge", "error"] = "edge"
    max_batch: int = 32
    max_wait_seconds: float = 0.001
    hard_samples_to: Label | None = None


class Task(Payload):
    """One worker that an edge shall run, and what it shall do now. Round 0 asks for a model's initial weights."""

    worker: Label
    role: Literal["train", "aggregate", "evaluate", "infer", "big-model"]
    job: Label
    job_uid: Text
    round: Annotated[int, Field(ge=0)]
    model: WeightsRef | None = None
    script: ScriptSpec | None = None
    dataset: Label | None = None
    framework: Text | None = None
    parameters: dict[str, Scalar] = Field(default_factory=dict)
    algorithm: Text | None = None
    collect: RoundSpec | None = None
    inference: InferenceSpec | None = None
    active: bool = True
    """False: keep the worker warm, there is nothing to do in this round."""


class Desired(Payload):
    """The whole desired state of one edge."""

    edge: EdgeName
    generation: Generation
    tasks: list[Task] = Field(default_factory=list)
    datasets: dict[Label, DatasetSpec] = Field(default_factory=dict)


class WorkerReport(Payload):
    """What became of one worker, as its agent sees it."""

    worker: Label
    role: str
    job: str
    job_uid: str
    round: int
    state: Literal["waiting", "starting", "running", "backing-off", "finished", "failed", "refused"]
    detail: Text = ""
    restarts: int = 0


class Offer(Payload):
    """What an agent's workers can run."""

    algorithms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Algorithm name to the JSON schema of its parameters."""
    rules: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The same of the hard-sample rules."""
    frameworks: dict[str, str] = Field(default_factory=dict)
    """Framework name to installed version."""


class Report(Payload):
    """The reported state of one edge, with the generation it has reached."""

    edge: EdgeName
    observed: Generation
    version: str = ""
    workers: list[WorkerReport] = Field(default_factory=list)
    datasets: list[DatasetIndex] = Field(default_factory=list)
    offers: Offer = Field(default_factory=Offer)
    labels: dict[str, str] = Field(default_factory=dict)
    models: list[Digest] = Field(default_factory=list)
    waiting_events: int = 0
    """Events in the journal that the cloud has not acknowledged yet."""
    dropped_events: int = 0
    """Events that the journal's quota cost, ever, and that came faster than they could be taken, since the start."""
    refused_events: int = 0
    """Messages on the node's broker that were refused since the agent's start: forged, or no valid events."""


class ModelUpdate(Payload):
    """A local update: the whole weights of a participant after its local training in one round.

    ``num_samples`` is not checked here: an absurd one must reach the aggregation worker to be refused with its
    edge's name on it.
    """

    job: Label
    job_uid: Text
    round: int
    edge: EdgeName
    base: Digest | None = None
    weights: WeightsRef
    num_samples: int | float
    metrics: Metrics = Field(default_factory=dict)


class UncountedUpdate(Payload):
    """An update that was not counted, and why; ``digest`` of its weights where they lie in the edge's bucket."""

    edge: str
    round: int
    reason: Text
    digest: str = ""


class Aggregation(Payload):
    """A round is closed. ``counted`` maps each edge to the digest of its update that was summed.

    Where no update passed the checks ``model`` is the base, unchanged, or None where there was none.
    """

    job: Label
    job_uid: Text
    round: int
    model: WeightsRef | None = None
    counted: dict[str, str]
    num_samples: int = 0
    metrics: Metrics = Field(default_factory=dict)
    refused: list[UncountedUpdate] = Field(default_factory=list)
    late: list[UncountedUpdate] = Field(default_factory=list)
    duplicates: int = 0
    duration_seconds: float = 0.0
    reason: Literal["complete", "quorum", "deadline"]
    next_sequence: int = 0
    """Where in the stream of updates the next round starts."""

    def uploads(self) -> set[tuple[str, str]]:
        """Edge and digest of each update of this round that may lie in its edge's bucket: nobody needs it any more.

        Small updates travel inside their events, and where the model does they did.
        """
        large = self.model is not None and self.model.inline is None
        held = set(self.counted.items()) if large else set()
        return held | {(each.edge, each.digest) for each in (*self.refused, *self.late) if each.digest}


class Evaluation(Payload):
    """What a global model is worth on the held-out data set."""

    job: Label
    job_uid: Text
    round: int
    model: Digest
    metrics: Metrics
    num_samples: int = 0


class Assignment(Payload):
    """A task as the agent hands it to the worker process: the model is a file on this node, or inline.

    Attributes:
        number: counts an agent's assignments: one that was overtaken by a newer one is passed over.
    """

    number: int = 0
    task: Task
    edge: EdgeName
    model_file: Text = ""
    dataset_file: Text = ""
    dataset_samples: int = 0
    ended: bool = False
    """The job is over: finish, there is no next round."""


class WorkerState(Payload):
    """A worker to its agent: what it is doing. ``hello`` asks for the assignment again."""

    worker: Label
    state: Literal["hello", "failed"]
    detail: Text = ""


class Claim(Payload):
    """An agent of this name runs.

    Attributes:
        host, state: where it runs, for people.
        settled: it has found no other agent of its name before.
        answer: to another's claim; it is not answered again.
    """

    edge: EdgeName
    incarnation: Text
    host: Text = ""
    state: Text = ""
    settled: bool = False
    answer: bool = False


class Ack(Payload):
    """The highest of a producer's events that is on disk. ``incarnation`` tells its restarts apart."""

    incarnation: Text
    sequence: int


class LogRecord(Payload):
    """A line of a component's log."""

    level: Literal["debug", "info", "warning", "error"]
    component: Text
    message: Annotated[str, StringConstraints(max_length=65536)]
    time: Text = ""
    fields: dict[str, Any] = Field(default_factory=dict)


class Reply(Payload):
    """The answer to a request: ``ok`` with ``result``, or ``error``: code, topic, field, expected, got, message."""

    ok: bool
    result: Any = None
    error: dict[str, Any] | None = None


class Anything(BaseModel):
    """A document whose shape is its application's own."""

    model_config = ConfigDict(extra="allow")


class InferenceStats(Payload):
    """What one inference worker answered since it was started; each message replaces the one before.

    Attributes:
        worker, incarnation: who counted; a restarted worker counts from zero again.
        hard: requests that the rule found hard, each once. ``by_edge + by_cloud + errors`` is all that was answered.
        compared, agreed: answers that both models gave, and those of them that were the same.
        latencies: how many answers took up to 2^(n/4) × 100 µs, by n; empty buckets are left out.
    """

    service: Label
    service_uid: Text
    edge: EdgeName
    worker: Label
    incarnation: Text
    by_edge: Count = 0
    by_cloud: Count = 0
    hard: Count = 0
    degraded: Count = 0
    errors: Count = 0
    compared: Count = 0
    agreed: Count = 0
    bytes_offloaded: Count = 0
    latencies: dict[Bucket, Count] = Field(default_factory=dict, max_length=128)
    model: Text = ""
    trouble: Text = ""


class HardSample(Payload):
    """A sample that the edge's model was not sure of, with its scores. ``data`` is a safetensors file of one array,
    ``x``, where the sample is of at most 256 kB."""

    job: Label
    edge: EdgeName
    sample: Text
    scores: list[float] = Field(default_factory=list)
    data: WeightsRef | None = None


class SampleLabel(Payload):
    """A label for a sample."""

    job: Label
    sample: Text
    label: Scalar
