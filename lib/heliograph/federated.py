"""Federated learning from inside the user's own training loop.

    from heliograph import FederatedLearning

    fl = FederatedLearning(model, num_samples=len(data))
    for epoch in fl.rounds(10):          # was: for epoch in range(10)
        train_epoch()
        epoch.report(loss=loss)

In a job each turn of the loop is a round: the model has the global weights when the body starts, and the trained
weights are sent when the body ends. Outside a job the script trains alone, without a broker.

The rounds follow federated averaging (McMahan et al. 2017, https://arxiv.org/abs/1602.05629); the job's algorithm
decides how updates are combined.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

from heliograph import script_process, session
from heliograph.bus.contract.resources.base import Scalar
from heliograph.bus.contract.weights_file import beside
from heliograph.core.errors import Refused
from heliograph.metrics import Metrics, measured

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays, TensorFile
    from heliograph.frameworks.arrays import Array
    from heliograph.local_training import LocalTraining

__all__ = ["FederatedLearning", "Round", "dataset", "parameters"]

if session.reached == "nothing":
    session.reached = "imported"
_local_loops = 0


def dataset(purpose: str = "") -> Path | None:
    """Return the file of the worker's data set; None outside a job, or if the worker has none.

    Args:
        purpose: of a further data set: a PairTrainingJob has ``public`` and ``evaluation`` beside the developer's own.
    """
    if purpose:
        pairing = session.pairing
        return pairing.further_datasets.get(purpose) if pairing is not None else None
    if (job := session.of_script()) is not None:
        return job.dataset
    parent = script_process.parent()
    return parent.dataset if parent is not None else None


def parameters() -> dict[str, Scalar]:
    """Return a copy of the job's parameters, name to text, number or bool; empty outside a job."""
    if (job := session.of_script()) is not None:
        return dict(job.parameters)
    parent = script_process.parent()
    return dict(parent.parameters) if parent is not None else {}


class Round(int):
    """One turn of the loop, and a whole number that counts the rounds from 0, as ``range`` does: a script that had
    ``for epoch in range(10)`` keeps its arithmetic, ``0.1 * 0.95**epoch``, ``epoch % 5 == 0``, ``f"{epoch:03d}"``.

    Attributes:
        number: number of the round in the job, from 1, as the job's status has it: ``int(r) + 1``. Rounds that did not
            draw this edge are skipped, in both.
        local: True outside a job.
        parameters: the job's parameters in this round.
        metrics: the metrics reported so far.
        down: tensors that the job's algorithm sends down beside the model, by name; one that belongs to the tensor
            ``w`` of the model is called ``<kind>:w``. Empty if there are none, as in an algorithm's first round.
        attached: the tensors attached so far.
        own: True where the body trains a model of this edge's own, after the common one (Ditto). Its metrics are
            reported as ``own_<name>``.
    """

    number: int
    local: bool
    parameters: dict[str, Scalar]
    metrics: Metrics
    down: Arrays
    attached: dict[str, Any]
    own: bool
    _training: LocalTraining | None

    def __new__(
        cls, number: int, local: bool = False, parameters: dict[str, Scalar] | None = None, down: Arrays | None = None,
        training: LocalTraining | None = None, own: bool = False,
    ) -> Round:  # fmt: skip
        this = super().__new__(cls, number - 1)
        this.number = number
        this.local = local
        this.parameters = parameters if parameters is not None else {}
        this.metrics = Metrics("report")
        this.down = down if down is not None else {}
        this.attached = {}
        this.own = own
        this._training = training
        return this

    def __getnewargs__(self) -> tuple[int]:
        return (self.number,)  # of a copy, and of one that a child process gets

    def attach(self, **kinds: Arrays) -> None:
        """Send tensors beside this round's weights for the job's algorithm: ``r.attach(control=deltas)``.

        Args:
            kinds: for each kind a dict with an array for each floating-point tensor of the model, of its name and
                shape.
        """
        for kind, arrays in kinds.items():
            self.attached.update({beside(kind, name): array for name, array in arrays.items()})

    def correct(self, gradients: Mapping[str, Array]) -> dict[str, Array]:
        """Return the gradients of one step with what the job's algorithm adds to them (FedProx, SCAFFOLD, FedDyn), for
        models whose steps are taken by the script itself: a dict of NumPy arrays, say.

            for name, gradient in r.correct(gradients).items():
                model[name] -= rate * gradient

        Outside a job, and for an algorithm that adds nothing, they are returned as they are. An optimizer of PyTorch or
        Keras needs no call: its gradients are corrected where it stands.
        """
        return dict(gradients) if self._training is None else self._training.correct(gradients)

    @contextmanager
    def correct_fit(self, learning_rate: float) -> Iterator[None]:
        """Add what the job's algorithm adds to a step that is taken within a fit, such as scikit-learn's:

            with r.correct_fit(learning_rate=0.1):
                model.partial_fit(x, y)

        Args:
            learning_rate: the step's own: the gradient is taken to be the weights' change divided by it.
        """
        before = self._training.weights() if self._training is not None else {}
        yield
        if self._training is not None:
            self._training.correct_fit(learning_rate, before)

    def report(self, **metrics: SupportsFloat | list[Any]) -> None:
        """Report metrics of the round: ``r.report(loss=0.1)``, or ``r.report(**model.fit(x, y).history)``. A later
        value of a name replaces the earlier one.

        Args:
            metrics: numbers, arrays or tensors with one element, or lists of one number for each epoch, of which the
                last is taken. Any other value, one that is not finite, and more than 64 metrics are left out with a
                warning: a metric never costs the round.
        """
        self.metrics.add(metrics)


class FederatedLearning:
    """Federated training of ``model`` with the other participants of a job, or local training outside a job.

    Args:
        model: a torch.nn.Module, a Keras model, a scikit-learn estimator, a dict of NumPy arrays, or any object with
            ``get()`` and ``set(arrays)`` (see heliograph.frameworks).
        num_samples: number of samples that this participant trains on, 1 or more: its weight in the average. By
            default the number of samples in the worker's data set.
        evaluate: function that measures the present model and returns an accuracy, or metrics by name, or what Keras'
            ``model.evaluate`` returns. The job calls it to evaluate a global model; outside a job it is called after
            each round.
        loss: function that returns the mean loss of the present model over this participant's samples. A job calls it
            before the training of a round where its algorithm or its choice of participants needs that (q-FedAvg,
            power-of-choice).

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
        evaluate: Callable[[], Any] | None = None,
        loss: Callable[[], Any] | None = None,
    ) -> None:
        self.model = model
        self.history: list[dict[str, float]] = []
        self._round = 0
        self._evaluate = evaluate
        self._loss = loss
        self._num_samples = None if num_samples is None else _count(num_samples, self.edge)
        if session.reached in ("nothing", "imported"):
            session.reached = "made"

    @property
    def edge(self) -> str:
        """The name of the edge on which this script trains; empty outside a job."""
        if session.current is not None:
            return session.current.edge
        parent = script_process.parent()
        return parent.edge if parent is not None else ""

    @property
    def round(self) -> int:
        """The number of the present round, from 1; 0 before the first."""
        return self._round

    def rounds(self, local: int = 1) -> Iterator[Round]:
        """Iterate over the rounds of the job; outside a job over ``local`` rounds. A script has one such loop.

        A body that breaks out sends its round's update with the request to stop: the job decides whether this edge
        takes part in further rounds, and the code after the loop runs. A body that raises sends nothing for its round.
        When the loop ends by itself, the model has the last weights from the job, or those that the body trained from
        them.

        Args:
            local: number of rounds outside a job.

        Raises:
            Refused: if the job's weights do not fit the model, the job wants an evaluation and ``evaluate`` is
                missing, ``num_samples`` is neither given nor known from a data set, the script loops a second time in a
                job, a child process of it loops, or the job is of another kind.
        """
        if session.reached != "worked":
            session.reached = "called"
        session.check_loop("FederatedTask")
        if session.current is not None:
            return self._federated(session.current)
        if script_process.parent() is not None:
            raise script_process.refusal()
        return self._local(local)

    def _local(self, count: int) -> Iterator[Round]:
        from heliograph.frameworks.checking import check_model

        check_model(self.model)  # what a job would refuse is refused here, too
        global _local_loops
        _local_loops += 1
        if _local_loops == 2:
            warnings.warn("a second loop over rounds() in one process: in a job it is refused, since a job trains one "
                          "model in one loop", stacklevel=2)  # fmt: skip
        for number in range(1, count + 1):
            this = self._started(Round(number, local=True))
            yield this
            if self._evaluate is not None:
                this.metrics.update(self._measure())

    def _federated(self, job: session.Session) -> Iterator[Round]:
        loop = self._work_through(job)
        job.begin_rounds(loop)
        return loop

    def _work_through(self, job: session.Session) -> Iterator[Round]:
        from heliograph.frameworks import adapter_for, buffers_of
        from heliograph.frameworks.loading import Loader
        from heliograph.local_training import LocalTraining

        adapter = adapter_for(self.model)
        loader = Loader(adapter)
        num_samples = self._samples_in(job)
        training = LocalTraining(adapter, num_samples, self._loss)
        while (work := job.next_work()) is not None:
            if work.weights is not None:
                loader.load(work.weights)
            if work.kind == "initialise":
                job.send_update(session.Trained(adapter.get(), num_samples, buffers=buffers_of(adapter)))
            elif work.kind == "evaluate":
                job.send_evaluation(self._measure(), num_samples)
            elif work.kind == "train":
                given = {**job.parameters, **work.parameters}
                down = _copied(work.down)
                this = Round(work.round, parameters=given, down=down, training=training)
                this.metrics.update(training.begin(work, down))
                try:
                    yield self._started(this)
                    if training.begin_own():
                        own = Round(work.round, parameters=given, down=down, training=training, own=True)
                        yield own
                        this.metrics.update({f"own_{name}": value for name, value in own.metrics.items()})
                except GeneratorExit:
                    _leave(job, training, this)
                    raise
                job.send_update(training.end(this.metrics, this.attached))

    def _samples_in(self, job: session.Session) -> int:
        count = self._num_samples if self._num_samples is not None else _count(job.dataset_samples, job.edge)
        if count == 1:
            warnings.warn(f"edge {job.edge} trains on 1 sample: batch normalisation fails on a batch of one, and one "
                          "sample says little; give this edge more data, or leave it out of the job",
                          stacklevel=3)  # fmt: skip
        return count

    def _started(self, this: Round) -> Round:
        self._round = this.number
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
        return measured(self._evaluate(), self.model)


def _leave(job: session.Session, training: LocalTraining, this: Round) -> None:
    """Hand over the update of a loop that is left. What Python drops an iterator for may raise nothing."""
    try:
        job.leave(training.end(this.metrics, this.attached))
    except Refused as error:
        warnings.warn(f"round {this.number} sends no update: {error}", stacklevel=3)


def _copied(weights: TensorFile | None) -> Arrays:
    if weights is None:
        return {}
    with weights as file:
        return {name: array.copy() for name, array in file.arrays().items()}


def _count(num_samples: Any, edge: str) -> int:
    try:
        count = operator.index(num_samples)
    except TypeError:
        count = 0
    if count < 1:
        where = f" on edge {edge}" if edge else ""
        raise Refused(
            "bad-argument",
            field="num_samples",
            expected=f"the number of samples that this participant trains on{where}, 1 or more",
            got=num_samples,
            hint="Pass FederatedLearning(model, num_samples=len(data)), or give the worker a data set. An edge without "
            "a sample takes no part: leave it out of the job, or split the data so that each edge has some.",
        )
    return count
