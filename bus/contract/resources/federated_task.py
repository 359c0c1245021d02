"""FederatedTask: train one model over many edges whose data stays where it is."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from heliograph.bus.contract.resources.algorithm import PinnedPackage
from heliograph.bus.contract.resources.base import (
    Condition,
    Document,
    Parameter,
    Reference,
    Resource,
    RunsCode,
    WeightsRef,
)
from heliograph.bus.contract.resources.node_resources import Priority, WorkerResources
from heliograph.bus.contract.resources.participants import Participants
from heliograph.bus.contract.resources.stop_conditions import (
    BestBy,
    BestModel,
    EvaluatedModel,
    PlateauState,
    StopConditions,
    StopReason,
)
from heliograph.bus.contract.resources.update_encoding import UpdateEncoding
from heliograph.bus.contract.resources.worker_spec import WorkerSpec
from heliograph.bus.contract.versions import added
from heliograph.core.names import CLOUD, Label

Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Stopped"]
ENDED: tuple[Phase, ...] = ("Succeeded", "Failed", "Stopped")
HISTORY = 100
"""Number of closed rounds, of refused and of late updates that a status keeps; the stream of aggregations has all."""
NAMED = 16
"""Number of edges that a round's record names; a status has no room for a thousand participants."""
EarlyStopping = Literal["leave", "any", "ignore"]
JOINED = 1000
"""Edges and participants that may join a job by request."""
WATCHED = 1000
"""Number of assigned edges of which a status says whether they were ever counted."""

class TrainingWorker(Document):
    """One participant. Without ``nodeName`` it runs on any edge that offers its data set, or any data set if it names
    none. A setting missing in its ``workerSpec`` comes from the first training worker that has it."""

    name: Label
    node_name: Label | None = None
    worker_spec: WorkerSpec = Field(default_factory=WorkerSpec)


class AggregationSpec(Document):
    """The algorithm that combines updates into the next global model."""

    aggregation_algorithm: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "FedAvg"
    parameters: list[Parameter] = Field(default_factory=list, max_length=256)


class AggregationWorker(Document):
    """The model to train, and the node that aggregates its updates."""

    name: Label = "aggregation-worker"
    node_name: Label = CLOUD
    model: Reference
    worker_spec: AggregationSpec = Field(default_factory=AggregationSpec)


class EvaluationWorker(Document):
    """The node and the held-out data set on which each global model is evaluated."""

    name: Label = "evaluation-worker"
    node_name: Label = CLOUD
    dataset: Reference
    resources: WorkerResources | None = added("0.2")


class FederatedTaskSpec(Document):
    """The model to train, the participants, and the length of the training.

    Attributes:
        rounds: number of rounds.
        quorum: number of valid updates at which a round closes. Without it a round closes when every participant that
            can be reached has answered.
        round_deadline_seconds: seconds after which a round closes with the updates that have arrived.
        participants: number of edges that take part in each round. Without it every training worker takes part.
        update_encoding: how updates travel; absent for whole weights.
        early_stopping: what follows where a script leaves its loop early. ``leave``: its edge takes part in no further
            round, and the job succeeds once every edge that can work has left; ``any``: the job succeeds after that
            round; ``ignore``: the edge is asked again, and its script starts again.
        priority: which job's worker runs where the workers of two jobs do not fit on a node together.
        stop: conditions that end the job before its last round.
        best: the metric by which one of the job's models is the best, which stays under the alias ``best``. Without it
            it is the metric of ``stop``, else the evaluation's accuracy, or its loss.
    """

    aggregation_worker: AggregationWorker
    training_workers: Annotated[list[TrainingWorker], Field(min_length=1, max_length=10_000, fail_fast=True)]
    evaluation_worker: EvaluationWorker | None = None
    rounds: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 10
    quorum: Annotated[int, Field(ge=1, le=100_000, strict=True)] | None = None
    round_deadline_seconds: Annotated[float, Field(gt=0, le=7 * 86400)] = 60.0
    participants: Participants | None = None
    early_stopping: EarlyStopping = added("0.2", "leave")
    priority: Priority = added("0.2", 0)
    stop: StopConditions | None = added("0.2")
    update_encoding: UpdateEncoding | None = added("0.2")
    best: BestBy | None = added("0.2")

    @model_validator(mode="before")
    @classmethod
    def _training_workers_leave_aggregation_worker(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not isinstance(given.get("aggregationWorker"), Mapping):
            return given
        aggregation = dict(given["aggregationWorker"])
        if "trainingWorkers" not in aggregation:
            return given
        if "trainingWorkers" in given:
            raise ValueError("trainingWorkers stand inside aggregationWorker and beside it; give them once")
        workers = aggregation.pop("trainingWorkers")
        return {**given, "aggregationWorker": aggregation, "trainingWorkers": workers}

    @model_validator(mode="after")
    def _consistent(self) -> "FederatedTaskSpec":
        names = [worker.name for worker in self.training_workers]
        if len(set(names)) < len(names):
            raise ValueError("two trainingWorkers have the same name")
        nodes = [worker.node_name for worker in self.training_workers if worker.node_name]
        if len(set(nodes)) < len(nodes):
            raise ValueError("two trainingWorkers name the same nodeName; one edge sends one update a round")
        most = len(names) if self.participants is None else self.participants.count
        if self.quorum is not None and most is not None and self.quorum > most:
            raise ValueError(f"quorum {self.quorum} is more than the {most} participants of a round")
        return self


class UncountedRecord(Document):
    """An update that was not counted, and the reason; ``seconds_late`` as in the close record."""

    edge: str
    round: int
    reason: str
    seconds_late: float | None = added("0.2")


class RoundRecord(Document):
    """A closed round.

    Attributes:
        counted: number of counted updates.
        edges: the first few edges with a counted update.
        model: digest of the global model.
        num_samples: number of samples behind all counted updates.
        reason: why the round closed: ``complete``, ``quorum`` or ``deadline``.
        metrics: means of the counted updates' metrics, weighted by their samples.
        evaluation: metrics of the model on held-out data.
        capped: the first few edges that weigh less than by their samples (``max_share``).
    """

    round: int
    counted: int
    edges: list[str] = Field(default_factory=list)
    model: str
    num_samples: int = 0
    duration_seconds: float = 0.0
    reason: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)
    evaluation: dict[str, float] | None = None
    capped: list[str] | None = None


class JoinedParticipant(Document):
    """An edge, or a participant that trains by itself, that has asked to take part.

    Attributes:
        foreign: True for a participant without an agent: it trains by itself and asks for each round.
        dataset: the data set that the edge trains on; empty where there is none.
        samples: the largest number of samples that its updates may claim.
    """

    foreign: bool = False
    dataset: str = ""
    samples: int = 0


class FederatedTaskStatus(Document):
    """The progress of a task. ``step`` and ``round`` are the state machine; the other fields are for people."""

    phase: Phase = "Pending"
    step: Literal["selecting", "initialising", "training", "evaluating", "done"] = "selecting"
    round: int = 0
    conditions: list[Condition] = Field(default_factory=list)
    assignments: dict[str, str] = Field(default_factory=dict)
    """Training worker to the edge that it runs on."""
    datasets: dict[str, str] = Field(default_factory=dict)
    """Edge to the data set that it trains on."""
    pinned_samples: dict[str, int] | None = None
    """Edge to the number of samples in its data set when the task began; it bounds what the edge may claim."""
    dataset_versions: dict[str, str] = added("0.2", {})
    """Edge to the version of its data set when the task began."""
    participants: list[str] = Field(default_factory=list)
    """The edges that take part in this round."""
    parent: str = added("0.2", "")
    """Digest of the weights that the task started from; empty where an edge made the first ones."""
    model: WeightsRef | None = None
    model_round: int = 0
    """The round that closed with ``model``."""
    down: WeightsRef | None = None
    """Tensors that the algorithm sends down beside the model."""
    state: WeightsRef | None = added("0.2")
    """The algorithm's state after ``model_round``, for a run that goes on."""
    personal: dict[str, WeightsRef] | None = None
    """Edge to its personal model, if the algorithm makes any."""
    first_run: str = added("0.2", "")
    """Uid of the job's first run, where this one goes on after another: participants are drawn as in one run."""
    resumed_round: int = added("0.2", 0)
    """The round after which this run goes on; 0 for a first one."""
    counted_updates: dict[str, str] | None = added("0.2")
    """Edge to the digest of its last counted update, where edges keep arrays from round to round; else None."""
    updates_from: int = 1
    """Sequence in the stream of updates at which the current round starts."""
    evaluations_from: int = 1
    """Sequence in the stream of evaluations at which this task starts."""
    fruitless: int = 0
    """Number of consecutive rounds that closed without a valid update."""
    evaluation: dict[str, float] = Field(default_factory=dict)
    rounds: list[RoundRecord] = Field(default_factory=list)
    refused: list[UncountedRecord] = Field(default_factory=list)
    late: list[UncountedRecord] = Field(default_factory=list)
    refused_count: int = 0
    late_count: int = 0
    duplicate_count: int = 0
    unnoted_count: int | None = None
    """Number of further updates that were not counted: a flood, of which the close records note only the beginning."""
    round_began: str = added("0.2", "")
    """Time at which this round began; from its deadline on a round without an update is told."""
    uplink_bytes: int = added("0.2", 0)
    """Bytes of updates that have come, also of those that were not counted, and in earlier runs, while ``stop`` bounds
    them."""
    plateau: PlateauState | None = added("0.2")
    """What has been seen of the metric of ``stop.plateau``."""
    stopped_by: StopReason | None = added("0.2")
    """The stop condition that has ended the task."""
    best: BestModel | None = added("0.2")
    evaluating: EvaluatedModel | None = added("0.2")
    """The model that the evaluation worker has, where a newer one was made before its evaluation came."""
    left: list[str] = added("0.2", [])
    """Edges that asked to stop, and take part in no further round."""
    packages: dict[str, PinnedPackage] = added("0.2", {})
    """The packages that this task runs, by the name of their Algorithm."""
    uncounted: list[str] = added("0.2", [])
    """Assigned edges without a counted update so far, of the first ``WATCHED`` by name."""
    joined: dict[str, JoinedParticipant] = added("0.2", {})
    """Edges and foreign participants that have joined by request."""
    start_time: str = ""
    completion_time: str = ""


class FederatedTask(Resource):
    """``kind: FederatedTask``."""

    plural: ClassVar[str] = "jobs"

    kind: Literal["FederatedTask"] = "FederatedTask"
    spec: FederatedTaskSpec
    status: FederatedTaskStatus = Field(default_factory=FederatedTaskStatus)

    def is_foreign(self, edge: str) -> bool:
        """Return whether a participant trains by itself: no agent runs a worker for it."""
        joined = self.status.joined.get(edge)
        return joined is not None and joined.foreign

    @property
    def listed_workers(self) -> int:
        return 0 if self.status.phase in ENDED else len(self.spec.training_workers)

    @property
    def code_workers(self) -> Mapping[str, RunsCode]:
        workers = self.spec.training_workers if self.status.phase not in ENDED else ()
        return {f"spec.trainingWorkers[{number}].workerSpec": each.worker_spec for number, each in enumerate(workers)}

    @property
    def pinned_digests(self) -> Collection[str]:
        return {each.digest for each in self.status.packages.values()} if self.status.phase not in ENDED else ()
