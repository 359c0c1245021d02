"""Between the user's script and the worker that runs it: what the script is asked for, and where it answers.

A worker process sets ``current`` before it runs the script. Where there is none, the script runs on its own, as it did
before it knew of Heliograph.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from heliograph.bus.contract.resources.base import Scalar
from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays, TensorFile
    from heliograph.inference.serving import Serving


@dataclass(frozen=True)
class Work:
    """One round's work for the script.

    Attributes:
        kind: ``initialise``: send the model's present weights. ``train``: load ``weights``, train, send. ``evaluate``:
            load ``weights``, measure.
        weights: the global model, or this edge's own where the job's algorithm makes one; None where the model's own
            initial weights are asked for.
        down: what the job's algorithm sends down beside the model.
    """

    kind: Literal["initialise", "train", "evaluate"]
    job: str
    round: int
    weights: TensorFile | None = None
    parameters: dict[str, Scalar] = field(default_factory=dict)
    down: TensorFile | None = None


class Session(Protocol):
    """What a worker offers to the script that runs in it. All calls block; none needs an event loop."""

    edge: str
    job: str
    dataset: Path | None
    dataset_samples: int
    parameters: dict[str, Scalar]

    def next_work(self) -> Work | None:
        """Waits for the next round; None when the job has ended."""
        ...

    def send_update(self, arrays: Arrays, num_samples: int, metrics: dict[str, float]) -> None:
        """Sends this round's update; returns when it is on its way."""
        ...

    def send_evaluation(self, metrics: dict[str, float], num_samples: int) -> None: ...


current: Session | None = None

inference: dict[Literal["edge", "cloud"], Serving] = {}
"""In an inference worker: the side of the service that this worker is."""


def serving(side: Literal["edge", "cloud"]) -> Serving:
    """The worker's side that the script serves. Raises Refused outside such a worker."""
    if side not in inference:
        kind = {"edge": "JointInference", "cloud": "BigModel"}[side]
        what = "edgeWorker" if side == "edge" else "cloudWorker"
        raise Refused("no-worker", field="serve", expected=f"a worker of a JointInferenceService's {what}",
                      got="a process of its own" if not inference else "a worker of the other side",
                      hint=f"Here, {kind}.infer(x) answers.")  # fmt: skip
    return inference[side]
