"""The interface between the user's script and the worker that runs it.

A worker process sets ``current`` before it runs the script. Without it the script runs outside a job, as an ordinary
script.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from heliograph.bus.contract.resources.base import Scalar
from heliograph.core.child_process import give_up_permit
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
        weights: the global model, or this edge's own if the job's algorithm makes one; None to start from the model's
            own initial weights.
        down: tensors that the job's algorithm sends down beside the model.
    """

    kind: Literal["initialise", "train", "evaluate"]
    job: str
    round: int
    weights: TensorFile | None = None
    parameters: dict[str, Scalar] = field(default_factory=dict)
    down: TensorFile | None = None


@dataclass(frozen=True)
class LearnWork:
    """One step of a round of incremental learning, for the script.

    Attributes:
        kind: ``train``: load ``weights``, train on the shards and the memory, send a candidate. ``evaluate``: load
            ``weights``, the candidate, then ``champion``, and send what both answer to the shards' samples.
        weights: the version to start from, None for the model's own initial weights; in an evaluation the candidate.
        champion: in an evaluation the deployed version; None where there is none.
        shards: files of labelled samples, see ``heliograph.incremental.shards``.
        memory: file of the exemplars that an earlier training kept; None where there is none.
        classes: the classes by their index. The version that is loaded may know fewer.
    """

    kind: Literal["train", "evaluate"]
    job: str
    round: int
    weights: TensorFile | None = None
    champion: TensorFile | None = None
    shards: Sequence[TensorFile] = ()
    memory: TensorFile | None = None
    classes: Sequence[str] = ()
    parameters: dict[str, Scalar] = field(default_factory=dict)


class LearnSession(Protocol):
    """The learn worker's interface for the script that runs in it. All calls block; none needs an event loop."""

    edge: str
    job: str
    dataset: Path | None
    dataset_samples: int
    parameters: dict[str, Scalar]

    def begin_rounds(self, rounds: Iterator[Any]) -> None:
        """Take note of the script's loop. Raise Refused for a second one, and in a child process of the script."""
        ...

    def next_learning(self) -> LearnWork | None:
        """Wait for the next step and return it; return None when the job has ended."""
        ...

    def send_candidate(
        self, arrays: Arrays, classes: Sequence[str], memory: Arrays | None, num_samples: int,
        metrics: dict[str, float], seconds: float,
    ) -> None:  # fmt: skip
        """Stage the trained weights for sending and return.

        Args:
            memory: the exemplars to keep, as arrays of a shard; None where the script keeps none.
            num_samples: number of new samples that were trained on.
        """
        ...

    def send_answers(
        self, ids: Sequence[str], labels: Sequence[str], candidate: Sequence[str], champion: Sequence[str] | None,
        metrics: dict[str, float],
    ) -> None:  # fmt: skip
        """Send what both models answered to each held-out sample, for the gate.

        Args:
            ids: SHA-256 of each sample, in hexadecimal digits.
            labels: the true class of each; ``candidate`` and ``champion`` are the answers.
            champion: None where there is no champion.
            metrics: what the script's own measure says of the candidate.
        """
        ...


class Session(Protocol):
    """The worker's interface for the script that runs in it. All calls block; none needs an event loop."""

    edge: str
    job: str
    dataset: Path | None
    dataset_samples: int
    parameters: dict[str, Scalar]

    def begin_rounds(self, rounds: Iterator[Any]) -> None:
        """Take note of the script's loop. Raise Refused for a second one, and in a child process of the script."""
        ...

    def next_work(self) -> Work | None:
        """Wait for the next round's work and return it; return None when the job has ended."""
        ...

    def send_update(self, arrays: Arrays, num_samples: int, metrics: dict[str, float]) -> None:
        """Stage this round's update for sending and return."""
        ...

    def leave(self, arrays: Arrays, num_samples: int, metrics: dict[str, float]) -> None:
        """Send this round's update with the request to stop, unless an error of the script has left the loop."""
        ...

    def send_evaluation(self, metrics: dict[str, float], num_samples: int) -> None: ...


current: Session | None = None

learning: LearnSession | None = None
"""In a learn worker, the session in place of ``current``."""


def of_script() -> Session | LearnSession | None:
    """Return the session of the worker that runs this script; None outside a job, and in an inference worker."""
    return current if current is not None else learning


Reached = Literal["nothing", "imported", "made", "called", "worked"]
"""How far a script came: it never imported ``heliograph.federated``, imported it, made a FederatedLearning, called its
``rounds()``, or asked for the work of a round."""

reached: Reached = "nothing"
"""How far the script of this process came. Only a worker reads it."""

inference: dict[Literal["edge", "cloud"], Serving] = {}
"""In an inference worker, its side of the service."""


def serving(side: Literal["edge", "cloud"]) -> Serving:
    """Return the requests of the service's side that the script serves. Raise Refused outside such a worker."""
    if side not in inference:
        kind = {"edge": "JointInference", "cloud": "BigModel"}[side]
        what = "edgeWorker" if side == "edge" else "cloudWorker"
        raise Refused("no-worker", field="serve", expected=f"a worker of a JointInferenceService's {what}",
                      got="a process of its own" if not inference else "a worker of the other side",
                      hint=f"Outside a worker use {kind}.infer(x).")  # fmt: skip
    give_up_permit()  # the script has loaded its model
    return inference[side]
