"""The interface between the user's script and the worker that runs it.

A worker process sets ``current`` before it runs the script. Without it the script runs outside a job, as an ordinary
script.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from heliograph.bus.contract.resources.base import Scalar
from heliograph.core.child_process import give_up_permit
from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.bus.contract.resources.pair_plan import PairFigures, PairPlan, PairStep, SelectionFigures
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
        needs: what the algorithm needs measured, each a metric of the update.
        local_term: name of the term that the algorithm adds to the local training; empty for none.
        state: what the term has kept on this edge; None before its first counted update.
    """

    kind: Literal["initialise", "train", "evaluate"]
    job: str
    round: int
    weights: TensorFile | None = None
    parameters: dict[str, Scalar] = field(default_factory=dict)
    down: TensorFile | None = None
    needs: Sequence[str] = ()
    local_term: str = ""
    state: TensorFile | None = None


@dataclass(frozen=True)
class Trained:
    """A round's update, as the script hands it over.

    Attributes:
        arrays: the trained weights, and what travels beside them.
        buffers: names of the weights that training writes without a gradient.
        state: what the algorithm's term keeps on this edge, once the update has counted.
        personal: names of the weights that are not among ``arrays``, since they stay on the edge.
    """

    arrays: Arrays
    num_samples: int
    metrics: dict[str, float] = field(default_factory=dict)
    buffers: Collection[str] = ()
    state: Arrays = field(default_factory=dict)
    personal: Collection[str] = ()


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
        metrics: dict[str, float], champion_metrics: dict[str, float],
    ) -> None:  # fmt: skip
        """Send what both models answered to each held-out sample, for the gate.

        Args:
            ids: SHA-256 of each sample, in hexadecimal digits.
            labels: the true class of each; ``candidate`` and ``champion`` are the answers.
            champion: None where there is no champion.
            metrics: what the script's own measure says of the candidate; ``champion_metrics`` of the champion, empty
                where there is none.
        """
        ...


@dataclass(frozen=True)
class PairWork:
    """One step of the training of a pair, for the script.

    Attributes:
        step: ``selecting``: say which public samples are added. ``training-cloud`` and ``training-edge``: load
            ``weights``, train, send. ``measuring``: load ``cloud`` and ``edge``, tune and measure.
        weights: the version to start from; None for the model's own initial weights.
        selection: file that says which public samples were selected; None without a public data set.
        cloud, edge: the trained models, once there are.
        classes: the classes by their index, as far as they are named.
    """

    step: PairStep
    job: str
    round: int
    plan: PairPlan
    weights: TensorFile | None = None
    selection: TensorFile | None = None
    cloud: TensorFile | None = None
    edge: TensorFile | None = None
    classes: Sequence[str] = ()
    parameters: dict[str, Scalar] = field(default_factory=dict)


class PairSession(Protocol):
    """The pair worker's interface for the script that runs in it. All calls block; none needs an event loop."""

    edge: str
    job: str
    dataset: Path | None
    dataset_samples: int
    further_datasets: Mapping[str, Path]
    parameters: dict[str, Scalar]

    def begin_rounds(self, rounds: Iterator[Any]) -> None:
        """Take note of the script's loop. Raise Refused for a second one, and in a child process of the script."""
        ...

    def next_step(self) -> PairWork | None:
        """Wait for the next step and return it; return None when the job has ended."""
        ...

    def send_selection(self, arrays: Arrays, selected: SelectionFigures, classes: Sequence[str]) -> None:
        """Send which public samples were selected."""
        ...

    def send_model(
        self, arrays: Arrays, classes: Sequence[str], num_samples: int, metrics: dict[str, float], seconds: float
    ) -> None:
        """Stage a trained model's weights for sending and return."""
        ...

    def send_figures(self, figures: PairFigures) -> None:
        """Send what was measured of the pair."""
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

    def send_update(self, trained: Trained) -> None:
        """Stage this round's update for sending and return."""
        ...

    def leave(self, trained: Trained) -> None:
        """Send this round's update with the request to stop, unless an error of the script has left the loop."""
        ...

    def send_evaluation(self, metrics: dict[str, float], num_samples: int) -> None: ...


current: Session | None = None

learning: LearnSession | None = None
"""In a learn worker, the session in place of ``current``."""


pairing: PairSession | None = None
"""In a pair worker, the session in place of ``current``."""

Kind = Literal["FederatedTask", "IncrementalLearningJob", "PairTrainingJob"]
_LOOPS: dict[Kind, str] = {
    "FederatedTask": "FederatedLearning(model).rounds()",
    "IncrementalLearningJob": "IncrementalLearning(model).rounds(x, y)",
    "PairTrainingJob": "PairTraining(edge=shallow, cloud=deep).parts(x, y)",
}
"""The loop of a script for each kind of job."""


def of_script() -> Session | LearnSession | PairSession | None:
    """Return the session of the worker that runs this script; None outside a job, and in an inference worker."""
    return current or learning or pairing


def check_loop(own: Kind) -> None:
    """Raise Refused where this worker trains for another kind of job than the one that the script's loop is of."""
    sessions: dict[Kind, object] = {
        "FederatedTask": current, "IncrementalLearningJob": learning, "PairTrainingJob": pairing,
    }  # fmt: skip
    for kind, session in sessions.items():
        if session is not None and kind != own:
            raise Refused("wrong-loop", field="rounds", expected=f"the loop of {_one(kind)}, for which this worker "
                          f"trains", got=f"that of {_one(own)}",
                          hint=f"Use {_LOOPS[kind]} there, or name this script in {_one(own)}.")  # fmt: skip


def _one(kind: Kind) -> str:
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"


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
