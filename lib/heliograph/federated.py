"""Federated learning from inside the user's own training loop.

    from heliograph import FederatedLearning

    fl = FederatedLearning(model, num_samples=len(data))
    for r in fl.rounds(local=10):        # was: for epoch in range(10)
        train_epoch()
        r.report(loss=loss)

In a job each turn of the loop is a round: the model has the global weights when the body starts, and the trained
weights are sent when the body ends. Outside a job the script trains alone, without a broker.

The rounds follow federated averaging (McMahan et al. 2017, https://arxiv.org/abs/1602.05629); the job's algorithm
decides how updates are combined.
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
"""Largest number of metrics of a round, and of characters in a metric's name, that the topic of updates allows."""


def dataset() -> Path | None:
    """Return the file of the worker's data set; None outside a job, or if the worker has none."""
    return session.current.dataset if session.current is not None else None


def parameters() -> dict[str, Scalar]:
    """Return a copy of the job's parameters, name to text, number or bool; empty outside a job."""
    return dict(session.current.parameters) if session.current is not None else {}


@dataclass(frozen=True)
class Round:
    """One turn of the loop.

    Attributes:
        number: number of the round in the job, from 1; rounds that did not draw this edge are skipped.
        local: True outside a job.
        parameters: the job's parameters in this round.
        metrics: the metrics reported so far.
        down: tensors that the job's algorithm sends down beside the model, by name; one that belongs to the tensor
            ``w`` of the model is called ``<kind>:w``. Empty if there are none, as in an algorithm's first round.
        attached: the tensors attached so far.
    """

    number: int
    local: bool = False
    parameters: dict[str, Scalar] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    down: Arrays = field(default_factory=dict)
    attached: dict[str, Any] = field(default_factory=dict)

    def attach(self, **kinds: Arrays) -> None:
        """Send tensors beside this round's weights for the job's algorithm: ``r.attach(control=deltas)``.

        Args:
            kinds: for each kind a dict with an array for each floating-point tensor of the model, of its name and
                shape.
        """
        for kind, arrays in kinds.items():
            self.attached.update({beside(kind, name): array for name, array in arrays.items()})

    def report(self, **metrics: SupportsFloat) -> None:
        """Report metrics of the round: ``r.report(loss=0.1)``; a later value of a name replaces the earlier one.

        Args:
            metrics: finite numbers, or arrays or tensors with one element.

        Raises:
            Refused: if a value is no finite number, a name is longer than 128 characters, or the round has more than
                64 metrics.
        """
        self.metrics.update(_finite(metrics, "report"))
        if len(self.metrics) > MAX_METRICS:
            raise Refused("bad-metric", field="report", expected=f"at most {MAX_METRICS} metrics in a round",
                          got=f"{len(self.metrics)} of them")  # fmt: skip


class FederatedLearning:
    """Federated training of ``model`` with the other participants of a job, or local training outside a job.

    Args:
        model: a torch.nn.Module, a Keras model, a scikit-learn estimator, a dict of NumPy arrays, or any object with
            ``get()`` and ``set(arrays)`` (see heliograph.frameworks).
        num_samples: number of samples that this participant trains on, 1 or more: its weight in the average. By
            default the number of samples in the worker's data set.
        evaluate: function that measures the present model and returns an accuracy, or metrics by name. The job calls
            it to evaluate a global model; outside a job it is called after each round.

    Attributes:
        history: the metrics of each round of this process, the present one last.

    Raises:
        Refused: if ``num_samples`` is no whole number from 1.
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
        """Iterate over the rounds of the job; outside a job over ``local`` rounds.

        A body that breaks out or raises sends nothing for its round. When the loop ends by itself, the model has the
        last weights from the job, or those that the body trained from them.

        Args:
            local: number of rounds outside a job.

        Raises:
            Refused: if the job's weights do not fit the model, the job wants an evaluation and ``evaluate`` is
                missing, or ``num_samples`` is neither given nor known from a data set.
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
        self.history.append(this.metrics)  # the same dict, so that a round that breaks out keeps its metrics
        return this

    def _measure(self) -> dict[str, float]:
        if self._evaluate is None:
            raise Refused(
                "no-evaluate",
                field="evaluate",
                expected="a function that measures the model",
                got="none, though the job wants an evaluation",
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
            expected="the number of samples that this participant trains on, 1 or more",
            got=num_samples,
            hint="Pass FederatedLearning(model, num_samples=len(data)), or give the worker a data set.",
        )
    return count


def _finite(metrics: Mapping[str, Any], where: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or len(name) > MAX_METRIC_NAME:
            raise Refused("bad-metric", field=where, expected=f"metric names of at most {MAX_METRIC_NAME} characters",
                          got=name)  # fmt: skip
        try:  # text is refused even if it looks like a number
            number = math.nan if isinstance(value, (str, bytes)) else float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise Refused("bad-metric", field=f"{where}: {name}", expected="a finite number", got=value,
                          hint="A loss that is not finite means that the training diverged: lower its learning rate, "
                          "or leave the metric out.")  # fmt: skip
        found[name] = number
    return found
