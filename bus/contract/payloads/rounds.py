"""What a federated round leaves: local updates, the round's close, and what its model is worth."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heliograph.bus.contract.payloads.base import EdgeName, Metrics, Payload, Text
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.versions import added
from heliograph.core.names import Digest, Label


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
    """A round is closed.

    Attributes:
        model: the global model; where no update was counted the base, unchanged, or None where there was none.
        counted: edge to the digest of its update that was combined.
        state: what the algorithm keeps for the next round.
        down: what travels down beside the model in the next round.
        personal: each edge's own model, also of edges that an earlier round has made it for.
        uploaded: True where updates that were counted lie in their edges' buckets though the model travels inline.
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
    state: WeightsRef | None = added("0.2")
    down: WeightsRef | None = added("0.2")
    personal: dict[EdgeName, WeightsRef] | None = added("0.2")
    uploaded: bool | None = added("0.2")

    def uploads(self) -> set[tuple[str, str]]:
        """Edge and digest of each update of this round that may lie in its edge's bucket: nobody needs it any more.

        Small updates travel inside their events, and where the model does they did, unless the record says otherwise.
        """
        large = self.uploaded or (self.model is not None and self.model.inline is None)
        counted = set(self.counted.items()) if large else set()
        return counted | {(each.edge, each.digest) for each in (*self.refused, *self.late) if each.digest}


class Evaluation(Payload):
    """What a global model is worth on the held-out data set."""

    job: Label
    job_uid: Text
    round: int
    model: Digest
    metrics: Metrics
    num_samples: int = 0
