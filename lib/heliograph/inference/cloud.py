"""``BigModel``: the deep model, served in batches to all edges; replicas share what comes."""

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
from heliograph.inference.scoring import best, scorer_for

if TYPE_CHECKING:
    from heliograph.inference.inputs import Array
    from heliograph.inference.serving import Asked, Serving

_SMOOTH = 0.2


class BigModel:
    """The cloud's side of a service.

    Args:
        model: as ``JointInference``'s ``edge``; a function takes a batch and returns a row of scores for each sample.
        before: makes the model's input of one sample; ``after``: a result of scores (without it: the best class).
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
        self._after = after or best
        self._seconds = 0.0
        """Of one batch, smoothed."""

    def infer(self, x: Any) -> tuple[Any, Any]:
        """Result and scores of one sample, here and now."""
        scores = self._score(np.asarray(self._prepared(x))[np.newaxis])[0]
        return self._after(scores), scores

    def serve(self) -> None:
        """Answers what the edges send until the service ends. In a worker only."""
        serving = session.serving("cloud")
        serving.count(self.counts)
        serving.load(self._model)
        serving.admit = self._admits
        while (batch := serving.next_batch(self._model)) is not None:
            self._serve_batch(serving, batch)

    def _admits(self, waiting: int, max_batch: int, deadline: float) -> bool:
        """Whether a request can be answered in time behind those that wait."""
        return self._seconds * (waiting // max_batch + 1) <= deadline

    def _serve_batch(self, serving: Serving, batch: list[Asked]) -> None:
        began = self._world.monotonic()
        groups: dict[tuple[str, tuple[int, ...]], list[tuple[Asked, Array]]] = {}
        for asked in batch:
            if began > asked.until:
                self._refuse(serving, asked, _late(self.name))
                continue
            try:
                x = np.asarray(self._prepared(array_in(asked.tree, asked.topic)))
            except Exception as error:
                self._refuse(serving, asked, error)
            else:
                groups.setdefault((x.dtype.str, x.shape), []).append((asked, x))
        for group in groups.values():
            self._serve_group(serving, group)
        self._seconds += _SMOOTH * (self._world.monotonic() - began - self._seconds)

    def _serve_group(self, serving: Serving, group: list[tuple[Asked, Array]]) -> None:
        try:
            rows = self._score(np.stack([x for _, x in group]))
            if len(rows) != len(group):
                raise ValueError(f"the model returned {len(rows)} rows of scores for {len(group)} samples")
            answers = [{"result": self._after(scores), "scores": scores} for scores in rows]
        except Exception as error:
            if len(group) > 1:  # the others shall not pay for one
                for each in group:
                    self._serve_group(serving, [each])
            else:
                self._refuse(serving, group[0][0], error)
            return
        for (asked, _), answer in zip(group, answers, strict=True):
            self.counts.by_cloud += 1
            self.counts.took(self._world.monotonic() - asked.at)
            serving.answer_tree(asked, answer)
        serving.flush()

    def _refuse(self, serving: Serving, asked: Asked, error: Exception) -> None:
        self.counts.errors += 1
        serving.refuse(asked, error)

    def _prepared(self, x: Any) -> Any:
        return x if self._before is None else self._before(x)


def _late(name: str) -> Refused:
    return Refused("overloaded", topic=name, expected="to be answered within its deadline", got="too many before it",
                   hint="Raise the service's replicas or the deadline.")  # fmt: skip
