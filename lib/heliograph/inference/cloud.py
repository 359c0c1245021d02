"""``BigModel``: the deep model of a joint inference service, served to all edges in batches by one or more replicas."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from heliograph import session
from heliograph.core.errors import Refused
from heliograph.core.names import require_label
from heliograph.core.world import World
from heliograph.inference.counts import Counts
from heliograph.inference.inputs import sample_in
from heliograph.inference.predictors import Meaning, Prediction, Prepared, predictor_for, reading_of, warm

if TYPE_CHECKING:
    from heliograph.inference.serving import Serving
    from heliograph.inference.serving_queue import PendingRequest

_SMOOTHING = 0.2
"""Weight of the newest batch in the smoothed duration of a batch."""


class BigModel:
    """The cloud's side of a joint inference service.

    Args:
        name: the service's name, a DNS label.
        model: a torch.nn.Module, a Keras model, an estimator of scikit-learn's interface, or a function that takes a
            batch (samples × ...) and returns one row of scores, or one label, for each sample.
        classes, outputs, scores, before, after: as ``JointInference`` has them, for this model.
        example: one sample. The worker runs the model on it before it reports that it answers.

    Raises:
        Refused: if the name is no DNS label, the model is none of these, or an option is invalid.
    """

    def __init__(
        self,
        name: str,
        model: object,
        *,
        classes: Sequence[Any] | None = None,
        outputs: Meaning | None = None,
        scores: Callable[[Any], Any] | None = None,
        before: Callable[[Any], Any] | None = None,
        after: Callable[[Any], Any] | None = None,
        example: Any = None,
    ) -> None:
        self.name = require_label(name, "name")
        self.counts = Counts()
        self._world = World()
        self._model = model
        self._predictor = predictor_for(model, reading=reading_of(classes, outputs, scores, after))
        self._before = before
        self._example = example
        self._batch_seconds = 0.0
        """Smoothed duration of a batch, in seconds."""

    def infer(self, x: Any) -> tuple[Any, Any]:
        """Return the result and the scores of one sample, computed in this process.

        ``x`` is one sample, with no batch dimension. The scores of a model that gives labels or values are None. Raise
        Refused as ``JointInference.infer``. Errors of the model, ``before`` and ``after`` propagate.
        """
        (prediction,) = self._predictor.predict([self._prepared(x)])
        if prediction.failure is not None:
            raise prediction.failure
        return prediction.result, prediction.scores

    def serve(self) -> None:
        """Answer the requests of the edges until the service ends.

        Requests whose deadline has passed, or cannot be met, are refused as ``overloaded``.

        Raises:
            Refused: outside a worker of a JointInferenceService's cloudWorker.
        """
        serving = session.serving("cloud")
        serving.use_counts(self.counts)
        serving.on_classes = self._predictor.name_classes
        serving.load_initial(self._model)
        serving.health.check(self._check)
        serving.admit = self._admits
        while (batch := serving.next_batch(self._model)) is not None:
            self._serve_batch(serving, batch)

    def _admits(self, waiting: int, max_batch: int, deadline: float) -> bool:
        """Return whether a request can be answered in time behind the waiting ones."""
        return self._batch_seconds * (waiting // max_batch + 1) <= deadline

    def _serve_batch(self, serving: Serving, batch: list[PendingRequest]) -> None:
        began = self._world.monotonic()
        groups: dict[Hashable, list[tuple[PendingRequest, Prepared]]] = {}
        for request in batch:
            if began > request.until:
                self._refuse(serving, request, _overloaded(self.name))
                continue
            try:
                sample = self._prepared(sample_in(request.tree, request.topic))
            except Exception as error:
                self._refuse(serving, request, error)
            else:
                groups.setdefault(sample.kind, []).append((request, sample))
        for group in groups.values():
            self._serve_group(serving, group)
        self._batch_seconds += _SMOOTHING * (self._world.monotonic() - began - self._batch_seconds)

    def _check(self) -> None:
        if self._example is None:
            warm(self._predictor)
        else:
            self.infer(self._example)

    def _serve_group(self, serving: Serving, group: list[tuple[PendingRequest, Prepared]]) -> None:
        try:
            predictions: list[Prediction] = self._predictor.predict([sample for _, sample in group])
        except Exception as error:
            if len(group) > 1:  # score each alone, so that one bad sample does not fail the others
                for single in group:
                    self._serve_group(serving, [single])
            else:
                self._refuse(serving, group[0][0], error)
            return
        for (request, _), prediction in zip(group, predictions, strict=True):
            if prediction.failure is not None:
                self._refuse(serving, request, prediction.failure)
                continue
            serving.health.model_worked()
            self.counts.by_cloud += 1
            self.counts.add_latency(self._world.monotonic() - request.at)
            serving.queue_answer(request, {"result": prediction.result, "scores": prediction.scores})
        serving.flush()

    def _refuse(self, serving: Serving, request: PendingRequest, error: Exception) -> None:
        self.counts.errors += 1
        if not is_bad_input(error):
            serving.health.model_failed(error)
        serving.refuse(request, error)

    def _prepared(self, x: Any) -> Prepared:
        return self._predictor.prepare(x if self._before is None else self._before(x))


def is_bad_input(error: Exception) -> bool:
    """Return whether a request was refused for what its sender or the load did, and not for what the model does."""
    return isinstance(error, Refused) and error.code in ("invalid", "overloaded", "unsupported")


def _overloaded(name: str) -> Refused:
    return Refused("overloaded", topic=name, expected="an answer within the deadline", got="too many earlier requests",
                   hint="Raise the service's replicas or the deadline.")  # fmt: skip
