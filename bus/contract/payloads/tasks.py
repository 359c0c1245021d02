"""The tasks of workers: one class for each role, with the fields that the role needs.

A role's class attributes say how its workers are kept: nothing else compares the names of roles. On the wire each is a
mapping with ``role``; a service's generation goes by ``round`` there, the name that agents of 0.1 read.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import ConfigDict, Field

from heliograph.bus.contract.payloads.base import EdgeName, Payload, Text
from heliograph.bus.contract.resources.base import Scalar, WeightsRef
from heliograph.bus.contract.versions import FLOOR, Version, added
from heliograph.core.names import Label


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


class WorkerTaskBase(Payload):
    """One worker that an edge shall run, and what it shall do now."""

    since: ClassVar[Version] = FLOOR
    """The version that brought the role."""
    starts_idle: ClassVar[bool] = False
    """Launch the worker when it is first asked for something, not when its task first stands in the document."""
    serves: ClassVar[bool] = False
    """Let the old worker answer until its successor can begin."""
    reads_model_file: ClassVar[bool] = False
    """Fetch the task's weights to the node's disk, where they do not travel inside the task."""

    worker: Label
    role: str
    job: Label
    job_uid: Text
    model: WeightsRef | None = None

    @property
    @abstractmethod
    def revision(self) -> int:
        """Return how far the worker's job has got: its round, or the generation of its service."""

    @property
    def is_due(self) -> bool:
        """Return whether there is something to do now."""
        return True

    @property
    def loaded(self) -> WeightsRef | None:
        """The model that the worker begins with."""
        return self.model

    @property
    def files(self) -> tuple[WeightsRef, ...]:
        """The weights that the agent must have on its disk before the worker can do what is due."""
        if not self.reads_model_file or not self.is_due:
            return ()
        return tuple(ref for ref in (self.loaded, *self.besides) if ref is not None and ref.inline is None)

    @property
    def besides(self) -> tuple[WeightsRef | None, ...]:
        """What the worker reads beside the model."""
        return ()


class ScriptTask(WorkerTaskBase):
    """A worker that runs the user's script. Without one its agent refuses it."""

    script: ScriptSpec | None = None
    parameters: dict[str, Scalar] = Field(default_factory=dict)

    reads_model_file = True


class DatasetTask(ScriptTask):
    """A worker that runs the user's script over a data set, round by round. Without a model it makes the first one."""

    round: Annotated[int, Field(ge=0)]
    dataset: Label | None = None
    active: bool = True
    """False: keep the worker warm, there is nothing to do in this round."""

    @property
    def revision(self) -> int:
        return self.round

    @property
    def is_due(self) -> bool:
        return self.active


class TrainTask(DatasetTask):
    """Train on the edge's data. Round 0 asks for a model's initial weights.

    Attributes:
        down: what the job's algorithm sends down beside the model.
        personal: this edge's own model, which is trained in the place of the global one.
    """

    role: Literal["train"] = "train"
    framework: Text | None = None
    down: WeightsRef | None = added("0.2")
    personal: WeightsRef | None = added("0.2")

    starts_idle = True  # of ten thousand edges a round may draw a hundred

    @property
    def loaded(self) -> WeightsRef | None:
        return self.personal or self.model

    @property
    def besides(self) -> tuple[WeightsRef | None, ...]:
        return (self.down,)


class EvaluateTask(DatasetTask):
    """Measure a round's model on held-out data."""

    role: Literal["evaluate"] = "evaluate"


class AggregateTask(WorkerTaskBase):
    """Collect the updates of a round, and close it. Its worker keeps its own results: it fetches no model ahead."""

    role: Literal["aggregate"] = "aggregate"
    round: Annotated[int, Field(ge=0)]
    algorithm: Text = "FedAvg"
    parameters: dict[str, Scalar] = Field(default_factory=dict)
    collect: RoundSpec

    @property
    def revision(self) -> int:
        return self.round


class ServingTask(ScriptTask):
    """Answer requests of a service. Another generation runs another script; all else is handed to the running one.

    Attributes:
        generation: of the service's spec, when it last changed what the worker runs.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    generation: Annotated[int, Field(ge=0, alias="round")]
    framework: Text | None = None
    inference: InferenceSpec = Field(default_factory=InferenceSpec)

    serves = True

    @property
    def revision(self) -> int:
        return self.generation


class InferTask(ServingTask):
    """Answer on the edge, and ask the cloud about hard samples."""

    role: Literal["infer"] = "infer"


class BigModelTask(ServingTask):
    """Answer in the cloud what the edges were not sure of."""

    role: Literal["big-model"] = "big-model"


_Role = TrainTask | EvaluateTask | AggregateTask | InferTask | BigModelTask
WorkerTask = Annotated[_Role, Field(discriminator="role")]
"""A task of any role."""

ROLES: dict[str, type[WorkerTaskBase]] = {each.model_fields["role"].default: each for each in get_args(_Role)}
"""The class of each role, by the role's name on the wire."""
