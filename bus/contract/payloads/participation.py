"""Payloads for whoever takes part in a job from outside, and for whoever waits for its end."""

from typing import Annotated

from pydantic import Field, StringConstraints

from heliograph.bus.contract.payloads.base import Count, EdgeName, Metrics, Payload, Text
from heliograph.bus.contract.payloads.rounds import UncountedUpdate
from heliograph.bus.contract.resources.base import Scalar, WeightsRef
from heliograph.core.names import Digest, Label

PART = 512 * 1024
"""Bytes of weights that one request or answer carries, at most."""
PartText = Annotated[str, StringConstraints(max_length=4 * -(-PART // 3))]


class Participation(Payload):
    """What an edge or a participant has to do for a job now.

    Attributes:
        phase: phase of the job; once it is Succeeded, Failed or Stopped there is nothing more to do.
        round: the present round, of ``rounds``.
        active: whether to train in this round and to publish an update.
        present: whether the cloud's broker sees it connected; no round asks one that is not.
        model: the model that a participant trains from; absent in round 0, which asks for initial weights. An agent
            has this and what follows from its desired document.
        down: tensors that the algorithm sends beside the model.
        parameters: the job's parameters for training.
        deadline: time at which the round closes with the updates that have come; empty where no round is open.
        most_samples: the largest ``num_samples`` that its updates may claim.
        left: whether it has asked to stop; then no round asks it any more.
        uncounted: its newest updates that were refused or came late, with the reasons.
    """

    job: Label
    job_uid: Text
    edge: EdgeName
    phase: Text
    round: int
    rounds: int = 0
    active: bool = False
    present: bool = False
    model: WeightsRef | None = None
    down: WeightsRef | None = None
    parameters: dict[str, Scalar] = Field(default_factory=dict)
    deadline: Text = ""
    most_samples: Count = 0
    left: bool = False
    uncounted: list[UncountedUpdate] = Field(default_factory=list)


class WeightsPart(Payload):
    """A part of a weights file, from ``offset`` on.

    Attributes:
        size: bytes of the whole file.
        data: the part's bytes, base64.
    """

    digest: Digest
    size: int
    offset: int
    data: PartText


class UploadState(Payload):
    """How much of a participant's weights has come.

    Attributes:
        received: bytes that have come; the next part begins there.
        weights: the reference for the update, once the whole file has come and is stored.
    """

    digest: Digest
    size: int
    received: int
    weights: WeightsRef | None = None


class JobEnded(Payload):
    """The end of a job.

    Attributes:
        phase: ``Succeeded``, ``Failed``, ``Stopped``, or ``Deleted`` where a job was deleted before its end.
        reason, message: those of its condition ``Complete``.
        model: name of the model that it trained.
        digest: digest of its last global model; absent where it has none.
        round: the round that closed with that model.
        metrics: metrics of that model: its evaluation, else those of the training.
        created_by: the caller whose request created the job.
    """

    job: Label
    job_uid: Text
    kind: Text
    phase: Text
    reason: Text = ""
    message: Text = ""
    model: Label | None = None
    digest: Digest | None = None
    round: int = 0
    metrics: Metrics = Field(default_factory=dict)
    created_by: Text = ""
    start_time: Text = ""
    completion_time: Text = ""
