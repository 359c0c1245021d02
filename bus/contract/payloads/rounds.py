"""Payloads of a federated round: local updates, the round's close, and the evaluation of its model."""

from typing import Literal

from pydantic import Field

from heliograph.bus.contract.payloads.base import EdgeName, Metrics, Payload, Text
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.versions import added
from heliograph.core.names import Digest, Label


class ModelUpdate(Payload):
    """A local update: the whole weights of a participant after its local training in one round.

    Attributes:
        base: digest of the global model that the participant trained from; absent in round 0.
        num_samples: number of samples that the participant trained on. Any number is valid here: the aggregation worker
            refuses an implausible one, and names the edge.
        metrics: metrics of the local training, by name.
        encoding: how its weights are encoded, for people; its file says it.
        stop: True where the script left its loop in this round: it asks to stop.
    """

    job: Label
    job_uid: Text
    round: int
    edge: EdgeName
    base: Digest | None = None
    weights: WeightsRef
    num_samples: int | float
    metrics: Metrics = Field(default_factory=dict)
    stop: bool = added("0.2", False)
    encoding: Text = added("0.2", "")


class UncountedUpdate(Payload):
    """An update that was not counted, and the reason.

    Attributes:
        digest: digest of its weights where they are in the edge's bucket.
        seconds_late: for a late update, the seconds from its round's deadline, or from its close if that came first;
            absent where they are not known, and where its edge could not be reached then.
    """

    edge: str
    round: int
    reason: Text
    digest: str = ""
    seconds_late: float | None = added("0.2")


class EdgeMeasure(Payload):
    """What a round tells of one edge that was asked; nothing where no update of it was counted.

    Attributes:
        num_samples: samples that it trained on.
        loss: its update's metric ``loss``.
        received_loss: its update's metric ``received_loss``: the loss of the model that it received, on its data.
        seconds: seconds from the round's start to its update.
    """

    num_samples: int | None = None
    loss: float | None = None
    received_loss: float | None = None
    seconds: float | None = None


class RoundState(Payload):
    """What a round leaves to the next one beside the model; ``Aggregation`` explains the fields."""

    state: WeightsRef | None = None
    down: WeightsRef | None = None
    personal: dict[EdgeName, WeightsRef] | None = None


class Aggregation(Payload):
    """The close of a round.

    Attributes:
        model: the global model. If no update was counted it is the base, unchanged, or absent if there was none.
        counted: edge to the digest of its update that was combined.
        num_samples: number of samples behind all counted updates.
        metrics: means of the counted updates' metrics, weighted by their samples.
        refused: updates that failed a check.
        late: updates that came after their round's close.
        duplicates: number of repeated updates.
        duration_seconds: seconds from the start of the round to its close.
        reason: why the round closed: all participants answered, the quorum was reached, or the deadline passed.
        state: the algorithm's state for the next round.
        down: tensors that the next round sends down beside the model.
        personal: edge to its personal model, also for edges that did not take part in this round.
        capped: counted edges that weigh less than by their samples, because of the largest share of one participant.
        uploaded: True where counted updates are in their edges' buckets although the model travels inline.
        unnoted: number of further updates that were not counted and that ``refused`` and ``late`` have no room for.
        stopping: edges whose updates of this round, or late ones, ask to take part in no further round.
        unchanged: counted edges whose update equals its base: their training changed nothing.
        uplink_bytes: bytes of updates that came in this round, whether they were counted or not, where the coordinator
            asks for them.
        measured: each edge that was asked, with what the round tells of it, where the coordinator asks for that.
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
    """Sequence in the stream of updates at which the next round starts."""
    state: WeightsRef | None = added("0.2")
    down: WeightsRef | None = added("0.2")
    personal: dict[EdgeName, WeightsRef] | None = added("0.2")
    uploaded: bool | None = added("0.2")
    capped: list[EdgeName] | None = added("0.2")
    unnoted: int | None = added("0.2")
    stopping: list[EdgeName] = added("0.2", [])
    unchanged: list[EdgeName] = added("0.2", [])
    uplink_bytes: int = added("0.2", 0)
    measured: dict[EdgeName, EdgeMeasure] = added("0.2", {})

    def uploads(self) -> set[tuple[str, str]]:
        """Return edge and digest of each update of this round that may be in its edge's bucket and can be deleted.

        Small updates travel inside their events: counted ones did if the model is inline and ``uploaded`` is not set.
        """
        large = self.uploaded or (self.model is not None and self.model.inline is None)
        counted = set(self.counted.items()) if large else set()
        return counted | {(each.edge, each.digest) for each in (*self.refused, *self.late) if each.digest}


class Evaluation(Payload):
    """The evaluation of a global model on the held-out data set.

    Attributes:
        model: digest of the model.
        metrics: metrics by name.
        num_samples: number of samples in the held-out data set.
    """

    job: Label
    job_uid: Text
    round: int
    model: Digest
    metrics: Metrics
    num_samples: int = 0
