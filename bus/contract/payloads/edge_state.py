"""The state of an edge: what the coordinator desires, and what its agent reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema

from heliograph.bus.contract.payloads.base import EdgeName, Payload, Text
from heliograph.bus.contract.payloads.task_reading import UnsupportedTask, read_tasks
from heliograph.bus.contract.payloads.tasks import ROLES, WorkerTask, WorkerTaskBase
from heliograph.bus.contract.resources import refusal_of
from heliograph.bus.contract.resources.dataset import DatasetIndex, DatasetSpec
from heliograph.core.names import Digest, Label, is_label


class Generation(Payload):
    """A place in the order of desired documents: a new coordinator's epoch is above every earlier one."""

    model_config = ConfigDict(frozen=True)

    epoch: Annotated[int, Field(ge=0)] = 0
    n: Annotated[int, Field(ge=0)] = 0

    @property
    def order(self) -> tuple[int, int]:
        return (self.epoch, self.n)

    def __str__(self) -> str:
        return f"{self.epoch}.{self.n}"


class Desired(Payload):
    """The whole desired state of one edge. Reading sets aside each task or data set that this version does not support.

    Attributes:
        unsupported: the tasks that were set aside.
        unsupported_datasets: the data sets that were: their indexes say why.
    """

    edge: EdgeName
    generation: Generation
    tasks: list[WorkerTask] = Field(default_factory=list)
    datasets: dict[Label, DatasetSpec] = Field(default_factory=dict)
    unsupported: SkipJsonSchema[tuple[UnsupportedTask, ...]] = Field(default=(), exclude=True)
    unsupported_datasets: SkipJsonSchema[tuple[DatasetIndex, ...]] = Field(default=(), exclude=True)

    @model_validator(mode="wrap")
    @classmethod
    def _set_aside_what_cannot_be_read(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
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
                readable[name] = DatasetSpec.model_validate(datasets[name], extra="ignore")
            except ValidationError as error:
                del readable[name]
                others.append(DatasetIndex(name=name, error=refusal_of(error).sentence()[:1000]))
        document |= {"datasets": readable, "unsupported_datasets": tuple(others)}
    return document


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

    def runs(self, task: type[WorkerTaskBase]) -> bool:
        """Return whether the worker's role is of that class. A later version's role is of none."""
        role = ROLES.get(self.role)
        return role is not None and issubclass(role, task)


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
