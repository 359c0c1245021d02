"""Bodies and answers of the requests about a job: its data, models, training, evaluation and deployment."""

from typing import Annotated

from pydantic import Field

from heliograph.bus.contract.request_bodies import Limit, Named
from heliograph.bus.contract.resources.base import Condition, Document
from heliograph.bus.contract.resources.dataset import DatasetIndex
from heliograph.bus.contract.resources.federated_task import Phase, RoundRecord, UncountedRecord
from heliograph.bus.contract.resources.model import ModelVersion
from heliograph.core.names import Label

EDGES_LISTED = 500
Continue = Annotated[Label | None, Field(alias="continue")]


class EdgesQuery(Named):
    """A request about a job, edge by edge.

    Attributes:
        limit: edges in the answer, at most.
        after: the `continue` of the answer before.
    """

    limit: Limit = EDGES_LISTED
    after: Continue = None


class EdgeDataset(Document):
    """The data of one node.

    Attributes:
        worker: the worker that reads it.
        dataset: name of the data set; empty where the worker reads none.
        samples_at_start: number of its samples when the job began.
        index: what the node's agent tells about it now; absent where it tells nothing.
        online: whether the node is connected.
    """

    edge: Label
    worker: str = ""
    dataset: str = ""
    samples_at_start: int | None = None
    index: DatasetIndex | None = None
    online: bool = False


class JobDatasets(Document):
    """The data that a job trains on, and is evaluated on.

    Attributes:
        edge_count: number of training edges.
        samples: samples of all of them, as their agents tell now.
        edges: sorted by name.
        evaluation: the held-out data; absent where the job names none.
        after: where more edges follow.
    """

    name: Label
    edge_count: int = 0
    samples: int = 0
    edges: list[EdgeDataset] = Field(default_factory=list)
    evaluation: EdgeDataset | None = None
    after: Continue = None


class JobModels(Document):
    """The models of a job.

    Attributes:
        model: name of the model that it trains.
        digest, size: the global model that the present round starts from; empty before there is one.
        round: the round that closed with it.
        versions: what the job made of the model once it had succeeded.
        unfinished: what it left when it failed or was stopped.
        personal_count: number of edges that have a model of their own.
    """

    name: Label
    model: Label
    digest: str = ""
    size: int = 0
    round: int = 0
    versions: list[ModelVersion] = Field(default_factory=list)
    unfinished: list[ModelVersion] = Field(default_factory=list)
    personal_count: int = 0


class EdgeTraining(Document):
    """What one edge does for a job.

    Attributes:
        participates: whether it takes part in the present round.
        left: whether its script has asked to stop.
        online: whether it is connected.
        state, detail, round, restarts: of its worker, as its agent tells; empty where it runs none.
    """

    edge: Label
    worker: str = ""
    participates: bool = False
    left: bool = False
    online: bool = False
    state: str = ""
    detail: str = ""
    round: int = 0
    restarts: int = 0


class JobTraining(Document):
    """The training of a job.

    Attributes:
        round, rounds: the present round, and the number of rounds to train.
        deadline: time at which the present round closes at the latest; empty where none is open.
        participants: number of edges that take part in the present round.
        history: the newest closed rounds, oldest first.
        refused, late: the newest updates that were not counted.
        edges: sorted by name.
        after: where more edges follow.
    """

    name: Label
    phase: Phase
    step: str
    round: int = 0
    rounds: int
    start_time: str = ""
    deadline: str = ""
    completion_time: str = ""
    conditions: list[Condition] = Field(default_factory=list)
    participants: int = 0
    history: list[RoundRecord] = Field(default_factory=list)
    refused: list[UncountedRecord] = Field(default_factory=list)
    refused_count: int = 0
    late: list[UncountedRecord] = Field(default_factory=list)
    late_count: int = 0
    duplicate_count: int = 0
    edge_count: int = 0
    edges: list[EdgeTraining] = Field(default_factory=list)
    after: Continue = None


class RoundEvaluation(Document):
    """The evaluation of one round's global model, by its digest."""

    round: int
    model: str
    metrics: dict[str, float] = Field(default_factory=dict)


class JobEvaluation(Document):
    """The evaluation of a job's global models on held-out data.

    Attributes:
        data: node and data set; absent where the job has no evaluation worker.
        state, detail: of the evaluation worker, as its agent tells; empty where it runs none.
        metrics: the newest.
        rounds: the evaluated rounds of the newest, oldest first.
    """

    name: Label
    data: EdgeDataset | None = None
    state: str = ""
    detail: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)
    rounds: list[RoundEvaluation] = Field(default_factory=list)


class DeployedVersion(Document):
    """A version that a job has made, and where it is to run.

    Attributes:
        aliases: the aliases that name it.
        everywhere: whether it is deployed on every edge that is bound to no other version.
        edges: the edges that are bound to it by an alias.
    """

    version: int
    digest: str
    aliases: list[str] = Field(default_factory=list)
    everywhere: bool = False
    edges: list[Label] = Field(default_factory=list)


class JobDeployment(Document):
    """Where the result of a job is to run. `models/deployment` tells what each edge runs of the model now."""

    name: Label
    model: Label
    versions: list[DeployedVersion] = Field(default_factory=list)
