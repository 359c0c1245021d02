"""``BigModel``: the deep model of a joint inference service, served to all edges in batches by one or more replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from heliograph import session
from heliograph.core.errors import Refused
from heliograph.core.names import require_label
from heliograph.core.world import World
from heliograph.inference.counts import Counts
from heliograph.inference.inputs import array_in
from heliograph.inference.scoring import best_class, scorer_for

if TYPE_CHECKING:
    from heliograph.inference.inputs import Array
    from heliograph.inference.serving import PendingRequest, Serving

_SMOOTHING = 0.2
"""Weight of the newest batch in the smoothed duration of a batch."""


class BigModel:
    """The cloud's side of a joint inference service.

    Args:
        name: the service's name, a DNS label.
        model: a torch.nn.Module, a Keras model, an estimator with ``predict_proba``, or a function that takes a batch
            (samples × ...) and returns one row of scores for each sample.
        before: makes the model's input from one sample; without it the sample itself.
        after: makes the result from one row of scores; without it the index of the highest score.

    Raises:
        Refused: if the name is no DNS label, or the model is none of these.
    """

    def __init__(
        self,
        name: str,
        model: object,
        *,
        before: Callable[[Any], Any] | None = None,
        after: Callable[[Any], Any] | None = None,
    ) -> None:
        self.name = require_label(name, "name")
        self.counts = Counts()
        self._world = World()
        self._model = model
        self._score = scorer_for(model)
        self._before = before
        self._after = after or best_class
        self._batch_seconds = 0.0
        """Smoothed duration of a batch, in seconds."""

    def infer(self, x: Any) -> tuple[Any, Any]:
        """Return the result and the scores of one sample, computed in this process.

        ``x`` is one sample, with no batch dimension. Errors of the model, ``before`` and ``after`` propagate.
        """
        scores = self._score(np.asarray(self._prepared(x))[np.newaxis])[0]
        return self._after(scores), scores

    def serve(self) -> None:
        """Answer the requests of the edges until the service ends.

        Requests whose deadline has passed, or cannot be met, are refused as ``overloaded``.

        Raises:
            Refused: outside a worker of a JointInferenceService's cloudWorker.
        """
        serving = session.serving("cloud")
        serving.use_counts(self.counts)
        serving.load_initial(self._model)
        serving.admit = self._admits
        while (batch := serving.next_batch(self._model)) is not None:
            self._serve_batch(serving, batch)

    def _admits(self, waiting: int, max_batch: int, deadline: float) -> bool:
        """Return whether a request can be answered in time behind the waiting ones."""
        return self._batch_seconds * (waiting // max_batch + 1) <= deadline

    def _serve_batch(self, serving: Serving, batch: list[PendingRequest]) -> None:
        began = self._world.monotonic()
        groups: dict[tuple[str, tuple[int, ...]], list[tuple[PendingRequest, Array]]] = {}
        for request in batch:
            if began > request.until:
                self._refuse(serving, request, _overloaded(self.name))
                continue
            try:
                x = np.asarray(self._prepared(array_in(request.tree, request.topic)))
            except Exception as error:
                self._refuse(serving, request, error)
            else:
                groups.setdefault((x.dtype.str, x.shape), []).append((request, x))
        for group in groups.values():
            self._serve_group(serving, group)
        self._batch_seconds += _SMOOTHING * (self._world.monotonic() - began - self._batch_seconds)

    def _serve_group(self, serving: Serving, group: list[tuple[PendingRequest, Array]]) -> None:
        try:
            rows = self._score(np.stack([x for _, x in group]))
            if len(rows) != len(group):
                raise ValueError(f"the model returned {len(rows)} rows of scores for {len(group)} samples")
            answers = [{"result": self._after(scores), "scores": scores} for scores in rows]
        except Exception as error:
            if len(group) > 1:  # score each alone, so that one bad sample does not fail the others
                for single in group:
                    self._serve_group(serving, [single])
            else:
                self._refuse(serving, group[0][0], error)
            return
        for (request, _), answer in zip(group, answers, strict=True):
            self.counts.by_cloud += 1
            self.counts.add_latency(self._world.monotonic() - request.at)
            serving.queue_answer(request, answer)
        serving.flush()

    def _refuse(self, serving: Serving, request: PendingRequest, error: Exception) -> None:
        self.counts.errors += 1
        serving.refuse(request, error)

    def _prepared(self, x: Any) -> Any:
        return x if self._before is None else self._before(x)


def _overloaded(name: str) -> Refused:
    return Refused("overloaded", topic=name, expected="an answer within the deadline", got="too many earlier requests",
                   hint="Raise the service's replicas or the deadline.")  # fmt: skip
