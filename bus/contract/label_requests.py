"""Bodies and answers of the verbs of a label queue, ``request/labels/claim`` and so on."""

from typing import Annotated

from pydantic import Field

from heliograph.bus.contract.payloads.base import Payload, Text
from heliograph.bus.contract.payloads.labels import (
    Annotation,
    Labeller,
    LabelTask,
    Prediction,
    Result,
    Source,
    TaskPhase,
)
from heliograph.bus.contract.request_bodies import Named
from heliograph.bus.contract.resources.base import Binary
from heliograph.bus.contract.resources.label_queue import LabelSchema
from heliograph.core.names import Digest, Label


class ClaimTasks(Named):
    """A request for tasks.

    Attributes:
        labeller: who will label them; without it the login.
        source: what the labeller is.
        count: tasks at once, at most; an answer holds as many as fit.
    """

    labeller: Labeller = ""
    source: Source = "human"
    count: Annotated[int, Field(ge=1, le=64)] = 1


class RenewLease(Named):
    """A request for more time."""

    lease: Label


class SubmitLabel(Named):
    """A label for a claimed task. ``supersedes`` alone, without a lease, replaces the labeller's own earlier label.

    Attributes:
        task: its task, as a check.
        labeller: who labels; without it whoever claimed the task, or without a lease the login.
        origin: id of the label in another program that passes it on.
    """

    lease: Label | None = None
    task: Digest | None = None
    labeller: Labeller = ""
    result: Result
    ground_truth: bool = False
    lead_time: Annotated[float, Field(ge=0, le=1e9)] | None = None
    parent_prediction: Text = ""
    supersedes: Label | None = None
    origin: Text = ""


class SkipTask(Named):
    """The labeller passes over a claimed task, which is not given to that labeller again."""

    lease: Label
    reason: Text = ""
    origin: Text = ""


class ReleaseLease(Named):
    """The labeller gives a claimed task back; anybody may claim it at once."""

    lease: Label


class ProposeLabel(Named):
    """A model's prediction for a task. It becomes a label where the queue's calibrated bar allows."""

    task: Digest
    prediction: Prediction


class ReadSample(Named):
    """A request for a part of a task's sample: a sample that ``claim`` did not bring is larger than an answer.

    Attributes:
        offset: bytes of the sample that are known already.
    """

    task: Digest
    offset: Annotated[int, Field(ge=0)] = 0


class ListTasks(Named):
    """A request for the tasks of a queue, in the order in which they came.

    Attributes:
        phase: only those of this phase.
        limit: tasks in one answer, at most; an answer holds as many as fit.
        after: where an earlier answer ended.
    """

    phase: TaskPhase | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: Digest | None = None


class ClaimedTask(Payload):
    """A task with its lease.

    Attributes:
        expires: time at which the lease ends and the task is free again; ``renew`` moves it.
    """

    lease: Label
    expires: Text
    task: LabelTask


class Claimed(Payload):
    """The tasks that a labeller was given; none where none is left for that labeller now.

    Attributes:
        waiting: tasks that this labeller may still claim.
        label_schema: what labels look like.
    """

    tasks: list[ClaimedTask]
    waiting: int
    label_schema: LabelSchema


class SamplePart(Payload):
    """A part of a sample, from the offset asked for.

    Attributes:
        size: bytes of the whole sample, whose SHA-256 is the task's id.
        content: at most 256 kB; none behind the end.
    """

    task: Digest
    size: int
    content: Binary


class Renewed(Payload):
    """The lease's new end."""

    lease: Label
    task: Digest
    expires: Text


class Submitted(Payload):
    """The label as it was stored."""

    annotation: Annotation


class Given(Payload):
    """The task that is free again, or that was passed over."""

    task: Digest


class Proposed(Payload):
    """What became of a model's prediction.

    Attributes:
        accepted: whether it became a label.
        bar: confidence from which predictions become labels; absent while too few labels are known to calibrate it.
        why: reason where it did not.
    """

    task: Digest
    accepted: bool
    bar: float | None = None
    why: Text = ""


class TaskRecord(Payload):
    """A task with what is known about it, but for the sample itself.

    Attributes:
        confidence: of the consensus, 0 to 1: share of the labellers, or Dawid and Skene's probability.
    """

    task: LabelTask
    phase: TaskPhase
    consensus: Result | None = None
    confidence: float | None = None
    annotations: list[Annotation] = Field(default_factory=list)
    leased: int = 0


class TaskPage(Payload):
    """Tasks of a queue. ``after`` is the place to go on from; absent at the end."""

    tasks: list[TaskRecord]
    after: Digest | None = None
