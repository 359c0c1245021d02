"""Federated learning from inside the user's own training loop.

    from heliograph import FederatedLearning

    fl = FederatedLearning(model, num_samples=len(data))
    for r in fl.rounds(local=10):        # was: for epoch in range(10)
        train_epoch()
        r.report(loss=loss)

In a job each turn of the loop is a round of it: the model holds the global weights when the body starts, and what the
body made of them is sent when it ends. On its own the script trains as it did before, with no broker in sight.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

from heliograph import session
from heliograph.bus.contract import bfloat16
from heliograph.bus.contract.resources.base import Scalar
from heliograph.bus.contract.weights_file import beside
from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays, TensorFile
    from heliograph.frameworks import ModelAdapter

__all__ = ["FederatedLearning", "Round", "dataset", "parameters"]

MAX_METRICS, MAX_METRIC_NAME = 64, 128
"""Metrics of a round, and characters of a metric's name: as many as the topic of updates carries."""


def dataset() -> Path | None:
    """The file of the data set that the worker was given; None outside a job."""
    return session.current.dataset if session.current is not None else None


def parameters() -> dict[str, Scalar]:
    """The job's parameters, a copy; empty outside a job."""
    return dict(session.current.parameters) if session.current is not None else {}


@dataclass(frozen=True)
class Round:
    """One turn of the loop.

    Attributes:
        number: the job's number of the round; it counts from 1, and skips rounds that this edge was not drawn for.
        local: True outside a job.
        parameters: the job's parameters, as this round has them.
        metrics: what has been reported so far.
        down: what the job's algorithm sends down beside the model, by name; a tensor that belongs to ``w`` of the
            model is called ``<kind>:w``. Empty where there is nothing, as in an algorithm's first round.
        attached: what has been attached so far.
    """

    number: int
    local: bool = False
    parameters: dict[str, Scalar] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    down: Arrays = field(default_factory=dict)
    attached: dict[str, Any] = field(default_factory=dict)

    def attach(self, **kinds: Arrays) -> None:
        """Sends tensors beside this round's weights, as the job's algorithm wants them: ``r.attach(control=deltas)``
        with one array for each floating-point tensor of the model, of its name and shape."""
        for kind, arrays in kinds.items():
            self.attached.update({beside(kind, name): array for name, array in arrays.items()})

    def report(self, **metrics: SupportsFloat) -> None:
        """Says how the round went: ``r.report(loss=0.1)``; a later value of the same name replaces the earlier.

        A number may be a one-element array or tensor. Raises Refused where a value is not a finite number.
        """
        self.metrics.update(_finite(metrics, "report"))
        if len(self.metrics) > MAX_METRICS:
            raise Refused("bad-metric", field="report", expected=f"at most {MAX_METRICS} metrics in a round",
                          got=f"{len(self.metrics)} of them")  # fmt: skip


class FederatedLearning:
    """Trains ``model`` with the other participants of a job, or alone where there is no job.

    Args:
        model: a torch.nn.Module, a Keras model, a scikit-learn estimator, a dict of NumPy arrays, or any object with
            ``get()`` and ``set(arrays)`` (see heliograph.frameworks).
        num_samples: how many samples this participant trains on, its weight in the average; by default as many as the
            worker's data set has.
        evaluate: measures the model as it is now: an accuracy, or metrics by name. The job calls it where it wants a
            global model measured; outside a job it is called after each round.

    ``history`` holds the metrics of each round of this process, the present one last.
    """

    def __init__(
        self,
        model: Any,
        *,
        num_samples: int | None = None,
        evaluate: Callable[[], float | Mapping[str, float]] | None = None,
    ) -> None:
        self.model = model
        self.history: list[dict[str, float]] = []
        self._evaluate = evaluate
        self._num_samples = None if num_samples is None else _count(num_samples)

    def rounds(self, local: int = 1) -> Iterator[Round]:
        """The rounds of the job; outside a job ``local`` of them.

        A body that breaks out or raises sends nothing for its round. When the loop ends by itself, the model holds
        the last weights that the job handed out, or what the body made of them if it trained after that.
        Raises Refused where the job's weights do not fit the model, or where the job asks for what the script lacks.
        """
        return self._local(local) if session.current is None else self._federated(session.current)

    def _local(self, count: int) -> Iterator[Round]:
        for number in range(1, count + 1):
            this = self._started(Round(number, local=True))
            yield this
            if self._evaluate is not None:
                this.metrics.update(self._measure())

    def _federated(self, job: session.Session) -> Iterator[Round]:
        from heliograph.frameworks import adapter_for

        adapter = adapter_for(self.model)
        num_samples = self._num_samples if self._num_samples is not None else _count(job.dataset_samples)
        while (work := job.next_work()) is not None:
            if work.weights is not None:
                _load(work.weights, adapter)
            if work.kind == "initialise":
                job.send_update(adapter.get(), num_samples, {})
            elif work.kind == "evaluate":
                job.send_evaluation(self._measure(), num_samples)
            elif work.kind == "train":
                given = {**job.parameters, **work.parameters}
                this = self._started(Round(work.round, parameters=given, down=_copied(work.down)))
                yield this
                job.send_update({**adapter.get(), **this.attached}, num_samples, dict(this.metrics))

    def _started(self, this: Round) -> Round:
        self.history.append(this.metrics)  # the very dict: a round that breaks out shows what it reported
        return this

    def _measure(self) -> dict[str, float]:
        if self._evaluate is None:
            raise Refused(
                "no-evaluate",
                field="evaluate",
                expected="a function that measures the model",
                got="none, and the job asks for an evaluation",
                hint="Add it: FederatedLearning(model, evaluate=accuracy), where accuracy() returns a number or a "
                "dict of numbers.",
            )
        result = self._evaluate()
        return _finite(result if isinstance(result, Mapping) else {"accuracy": result}, "evaluate")


def _copied(weights: TensorFile | None) -> Arrays:
    if weights is None:
        return {}
    with weights as file:
        return {name: array.copy() for name, array in file.arrays().items()}


def _load(weights: TensorFile, adapter: ModelAdapter) -> None:
    with weights as file:
        arrays = file.arrays()
        for name, tensor in file.tensors.items():
            if tensor.dtype == "BF16":
                arrays[name] = bfloat16.widen(arrays[name])
        adapter.set(arrays)


def _count(num_samples: Any) -> int:
    try:
        count = operator.index(num_samples)
    except TypeError:
        count = 0
    if count < 1:
        raise Refused(
            "bad-argument",
            field="num_samples",
            expected="how many samples this participant trains on, 1 or more",
            got=num_samples,
            hint="Say FederatedLearning(model, num_samples=len(data)), or give the worker a data set.",
        )
    return count


def _finite(metrics: Mapping[str, Any], where: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or len(name) > MAX_METRIC_NAME:
            raise Refused("bad-metric", field=where, expected=f"metric names of at most {MAX_METRIC_NAME} characters",
                          got=name)  # fmt: skip
        try:  # text that looks like a number is none
            number = math.nan if isinstance(value, (str, bytes)) else float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise Refused("bad-metric", field=f"{where}: {name}", expected="a finite number", got=value,
                          hint="A loss that is not finite means that the training diverged: lower its learning rate, "
                          "or leave the metric out.")  # fmt: skip
        found[name] = number
    return found
