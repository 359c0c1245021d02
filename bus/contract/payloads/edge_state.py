"""The state of an edge: desired by the coordinator, reported by its agent."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from heliograph.bus.contract import payloads, resources
from heliograph.bus.contract.later import Later
from heliograph.bus.contract.parameter_schema import check_schema
from heliograph.bus.contract.payloads.base import Count, EdgeName, Payload, Text
from heliograph.bus.contract.payloads.task_reading import UnsupportedTask, read_tasks
from heliograph.bus.contract.resources import refusal_of
from heliograph.bus.contract.resources.base import ShortText
from heliograph.bus.contract.versions import added
from heliograph.core.names import Digest, Label, is_label

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads.labels import EdgeQueue
    from heliograph.bus.contract.payloads.learning import EdgeLoop, LoopReport
    from heliograph.bus.contract.payloads.worker_tasks import WorkerTask, WorkerTaskBase
    from heliograph.bus.contract.resources.dataset import DatasetIndex, DatasetSpec
else:
    _PAYLOADS, _RESOURCES = "heliograph.bus.contract.payloads", "heliograph.bus.contract.resources"
    DatasetSpec = Annotated[Any, Later(_RESOURCES, "DatasetSpec")]
    DatasetIndex = Annotated[Any, Later(_RESOURCES, "DatasetIndex")]
    WorkerTask = Annotated[Any, Later(_PAYLOADS, "WorkerTask")]
    EdgeQueue = Annotated[Any, Later(_PAYLOADS, "EdgeQueue")]
    EdgeLoop = Annotated[Any, Later(_PAYLOADS, "EdgeLoop")]
    LoopReport = Annotated[Any, Later(_PAYLOADS, "LoopReport")]


class Generation(Payload):
    """The order of desired documents, by `epoch`, then `n`. Each new leading coordinator takes a higher epoch."""

    model_config = ConfigDict(frozen=True)

    epoch: Count = 0
    n: Count = 0

    @property
    def order(self) -> tuple[int, int]:
        return (self.epoch, self.n)

    def __str__(self) -> str:
        return f"{self.epoch}.{self.n}"


class Desired(Payload):
    """The whole desired state of one edge. A reader sets aside each task or data set that its version does not support.

    Attributes:
        generation: place of this document in the order of the edge's documents.
        tasks: the workers that the edge runs; the agent stops every other worker.
        datasets: data set name to its specification.
        label_queues: name of each label queue whose tasks the edge's agent hands out, to the queue.
        loops: name of each incremental learning job whose loop the edge's agent runs by itself, to the loop.
        projects: uid of each job and service that is not of the project ``default``, to its project.
        unsupported: the tasks that were set aside.
        unsupported_datasets: indexes of the data sets that were set aside, with the reason as their error.
        unsupported_queues: names of the label queues that were set aside; their tasks stay as they are.
        unsupported_loops: names of the loops that were set aside; they stay as they are.
    """

    edge: EdgeName
    generation: Generation
    tasks: list[WorkerTask] = Field(default_factory=list)
    datasets: dict[Label, DatasetSpec] = Field(default_factory=dict)
    label_queues: dict[Label, EdgeQueue] = added("0.2", {})
    loops: dict[Label, EdgeLoop] = added("0.2", {})
    projects: dict[Text, Label] = added("0.2", {})
    unsupported: SkipJsonSchema[tuple[UnsupportedTask, ...]] = Field(default=(), exclude=True)
    unsupported_datasets: SkipJsonSchema[tuple[DatasetIndex, ...]] = Field(default=(), exclude=True)
    unsupported_queues: SkipJsonSchema[tuple[str, ...]] = Field(default=(), exclude=True)
    unsupported_loops: SkipJsonSchema[tuple[str, ...]] = Field(default=(), exclude=True)

    @model_validator(mode="wrap")
    @classmethod
    def _set_aside_unreadable_parts(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(given, Mapping):
            given = {key: value for key, value in given.items() if not str(key).startswith("unsupported")}
        try:
            return validate(given)
        except ValidationError:
            if not isinstance(given, Mapping):
                raise
        return validate(_readable(given))


def _readable(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with its unreadable tasks and data sets set aside."""
    document = dict(given)
    if isinstance(tasks := given.get("tasks"), list):
        document["tasks"], unsupported = read_tasks(tasks)
        document["unsupported"] = tuple(unsupported)
    if isinstance(datasets := given.get("datasets"), Mapping):
        readable, others = dict(datasets), []
        for name in filter(is_label, datasets):
            try:
                readable[name] = resources.DatasetSpec.model_validate(datasets[name], extra="ignore")
            except ValidationError as error:
                del readable[name]
                others.append(resources.DatasetIndex(name=name, error=refusal_of(error).sentence()[:1000]))
        document |= {"datasets": readable, "unsupported_datasets": tuple(others)}
    for field, others_field, name_of_kind in _KEPT_AS_THEY_ARE:
        if isinstance(parts := given.get(field), Mapping):
            kind: type[Payload] = getattr(payloads, name_of_kind)
            legible, unknown = dict(parts), []
            for name in filter(is_label, parts):
                try:
                    legible[name] = kind.model_validate(parts[name], extra="ignore")
                except ValidationError:
                    del legible[name]
                    unknown.append(name)
            document |= {field: legible, others_field: tuple(unknown)}
    return document


_KEPT_AS_THEY_ARE = (
    ("label_queues", "unsupported_queues", "EdgeQueue"),
    ("loops", "unsupported_loops", "EdgeLoop"),
)
"""Parts of the document of which an unreadable one stays as it is on the edge: field, field of the others, name of the
class."""


PublicKey = Annotated[str, StringConstraints(pattern="^([A-Za-z0-9_-]{43})?$")]


class WorkerReport(Payload):
    """The state of one worker, as its agent sees it.

    Attributes:
        role: role of the worker's task, such as ``train``.
        job: the job or service that the worker belongs to.
        job_uid: uid of that job or service.
        round: round of the worker's task, or the generation of its service.
        detail: reason of the state, for people.
        restarts: how often the agent started the worker again after a failure.
        final: True where the agent does not start the worker again for this task: its script failed in a way that
            another start does not mend.
        code: digest of the code that its script was started with; empty for a worker without a script.
        queued: True where it waits for memory or a GPU that others of the node's workers have, or for its pod.
        key: public key by which it signs closed rounds, in base64url; empty where it signs none.
    """

    worker: Label
    role: str
    job: str
    job_uid: str
    round: int
    state: Literal["waiting", "starting", "running", "backing-off", "finished", "failed", "refused"]
    detail: Text = ""
    restarts: int = 0
    final: bool = added("0.2", False)
    code: Text = added("0.2", "")
    queued: bool = added("0.2", False)
    key: PublicKey = added("0.2", "")

    def runs(self, task: "type[WorkerTaskBase]") -> bool:
        """Return whether the worker's role is of that class; a role of a later version is of no class."""
        from heliograph.bus.contract.payloads.worker_tasks import ROLES

        role = ROLES.get(self.role)
        return role is not None and issubclass(role, task)


Schema = Annotated[dict[str, Any], AfterValidator(check_schema)]


class Offer(Payload):
    """The algorithms, rules and frameworks that an agent's workers can run."""

    algorithms: dict[str, Schema] = Field(default_factory=dict)
    """Algorithm name to the JSON schema of its parameters."""
    rules: dict[str, Schema] = Field(default_factory=dict)
    """Hard-sample rule name to the JSON schema of its parameters."""
    frameworks: dict[str, str] = Field(default_factory=dict)
    """Framework name to installed version."""
    formats: dict[str, str] = added("0.2", {})
    """Format of whole models that are served without a script, such as ``onnx``, to the version of its runtime."""


class NodeCapacity(Payload):
    """What a node has for workers that ask for some of it: bytes of memory, and GPUs."""

    memory: Count = 0
    gpus: Count = 0


class NodeState(Payload):
    """What a node has free, as its agent saw it last. It is reported again only once it has changed by enough.

    Attributes:
        free_memory: bytes that a further process could have.
        free_cores: cores that are idle.
        battery: percent; absent where the node has none.
        charging: whether the battery is charging, or full on external power.
    """

    free_memory: Count | None = None
    free_cores: Annotated[float, Field(ge=0, le=1e6)] | None = None
    battery: Annotated[float, Field(ge=0, le=100)] | None = None
    charging: bool = False


class Report(Payload):
    """The reported state of one edge.

    Attributes:
        observed: generation of the desired document that the agent has reached.
        version: version of the agent.
        datasets: the data sets that the edge offers.
        offers: what its workers can run, as the coordinator has it from ``edge/<edge>/up/offers``; an agent of 0.1 says
            it here.
        labels: the edge's labels, as its agent was started with.
        models: digests of the models on the edge's disk.
        packages: digests of the packages of code that the edge has unpacked.
        capacity: what the node has for workers that ask for memory or GPUs; absent where its agent does not know.
        full: what the node's disk has no room for, and what to do, a sentence each.
        loops: the incremental learning jobs whose loops the agent runs, by name.
        unenforced: what the node's site policy asks for and its machine cannot enforce, a sentence each.
        refused_document: why the newest desired document does not hold here; empty where it does.
        signs_rounds: True where the node's aggregation workers sign the rounds that they close.
        node: what the node has free; absent where its agent does not look.
    """

    edge: EdgeName
    observed: Generation
    version: str = ""
    workers: list[WorkerReport] = Field(default_factory=list)
    datasets: list[DatasetIndex] = Field(default_factory=list)
    offers: Offer = Field(default_factory=Offer)
    labels: dict[ShortText, ShortText] = Field(default_factory=dict)
    models: list[Digest] = Field(default_factory=list)
    waiting_events: int = 0
    """Number of events in the journal that the cloud has not acknowledged yet."""
    dropped_events: int = 0
    """Number of events dropped: by the journal's quota, ever, and by full queues since the agent's start."""
    refused_events: int = 0
    """Number of messages on the node's broker refused since its journal was created: forged, or no valid events."""
    anomalous_events: int = added("0.2", 0)
    """Number of events since the journal was created by which a producer broke its numbering, or used another's
    incarnation."""
    unplaced_events: int = added("0.2", 0)
    """Number of messages of devices since the journal was created that no rule of the node's mapping takes."""
    packages: list[Digest] = added("0.2", [])
    capacity: NodeCapacity | None = added("0.2")
    full: list[Text] = added("0.2", [])
    loops: dict[Label, LoopReport] = added("0.2", {})
    unenforced: list[Text] = added("0.2", [])
    refused_document: Text = added("0.2", "")
    signs_rounds: bool = added("0.2", False)
    node: NodeState | None = added("0.2")
