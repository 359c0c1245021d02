"""The edge's side of joint inference: score a sample, decide whether it is hard, ask the cloud or fall back.

This module knows no topics.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from heliograph.bus.contract.payloads import InferenceSpec
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.inference.breaker import Breaker
from heliograph.inference.budget import Budget
from heliograph.inference.calibration import calibrate
from heliograph.inference.counts import Counts
from heliograph.inference.hard_samples import choose
from heliograph.inference.inputs import pack_request
from heliograph.inference.offload import is_overload
from heliograph.inference.scoring import best_class, scorer_for

AskCloud = Callable[[bytes, float], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        result: the result that ``after`` makes of the scores; without it the index of the highest score.
        scores: the row of scores of the model that answered.
        by: the side that answered.
        degraded: True if the sample was hard and the edge answered it.
        seconds: time from the request to the answer.
    """

    result: Any
    scores: Any
    by: Literal["edge", "cloud"]
    degraded: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A sample with the edge's scores; ``began`` and the deadline ``until`` are in monotonic seconds."""

    x: Any
    scores: Any
    hard: bool
    began: float
    until: float


class Shallow:
    """A model, a rule, a breaker and a budget. ``judge`` runs the model; ``settle`` asks the cloud for hard samples."""

    def __init__(
        self,
        name: str,
        model: object,
        spec: InferenceSpec,
        clock: Callable[[], float],
        draw: Callable[[], float],
        before: Callable[[Any], Any] | None = None,
        after: Callable[[Any], Any] | None = None,
    ) -> None:
        self.name = name
        self._clock = clock
        self._draw = draw
        self.counts = Counts()
        self.breaker = Breaker()
        self._score = scorer_for(model, "edge")
        self._before = before
        self._after = after or best_class
        self._lock = threading.Lock()
        self.spec = spec
        self._budget = Budget(spec.requests_per_second, spec.bytes_per_second)
        self.configure(spec)

    def configure(self, spec: InferenceSpec) -> None:
        """Use another rule, threshold, deadline or budget from the next sample on.

        Raise Refused for an unknown rule or a bad parameter; the previous settings then stay.
        """
        self._rule = choose(spec.rule, spec.rule_parameters, draw=self._draw)
        budget = (spec.requests_per_second, spec.bytes_per_second)
        if budget != (self.spec.requests_per_second, self.spec.bytes_per_second):
            self._budget = Budget(*budget)
        self.spec = spec

    def judge(self, x: Any, deadline: float | None, began: float | None = None) -> Judged:
        """Score one sample and decide whether it is hard.

        Raise Refused if the deadline is not above 0. Errors of the model and of ``before`` propagate.
        """
        return self.judge_all([(x, deadline, began)])[0]

    def judge_all(self, asked: Sequence[tuple[Any, float | None, float | None]]) -> list[Judged]:
        """Judge samples with their deadlines and start times; score samples of one shape and dtype together."""
        now = self._clock()
        groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        seen = []
        for place, (x, deadline, _) in enumerate(asked):
            if deadline is not None and not deadline > 0:
                raise Refused("invalid", field="deadline", expected="seconds, more than 0", got=deadline)
            seen.append(np.asarray(x if self._before is None else self._before(x)))
            groups.setdefault((seen[-1].dtype.str, seen[-1].shape), []).append(place)
        found: dict[int, Judged] = {}
        for places in groups.values():
            rows = self._score(np.stack([seen[place] for place in places]))
            if len(rows) != len(places):
                raise ValueError(f"the model returned {len(rows)} rows of scores for {len(places)} samples")
            for place, scores in zip(places, rows, strict=True):
                x, deadline, began = asked[place]
                start = now if began is None else began
                hard = bool(self._rule(calibrate(scores, self.spec.temperature)))
                until = start + (self.spec.deadline_seconds if deadline is None else deadline)
                found[place] = Judged(x, scores, hard, start, until)
        return [found[place] for place in range(len(asked))]

    def edge_answer(self, judged: Judged) -> Answer:
        """Return the edge's own answer, marked as degraded if the sample is hard."""
        answer = Answer(self._after(judged.scores), judged.scores, "edge", judged.hard, self._clock() - judged.began)
        with self._lock:
            self.counts.by_edge += 1
            self.counts.hard += judged.hard
            self.counts.degraded += judged.hard
            self.counts.add_latency(answer.seconds)
        return answer

    async def settle(self, judged: Judged, ask: AskCloud | None) -> Answer:
        """Return the cloud's answer to a hard sample if it comes in time, and the edge's answer otherwise.

        Raise Unreachable if the cloud gave no answer to a hard sample and the fallback is ``error``.
        """
        if not judged.hard:
            return self.edge_answer(judged)
        why = "no way to the cloud"
        if ask is not None:
            now = self._clock()
            body = pack_request(np.asarray(judged.x), max(judged.until - now, 0.0))
            if judged.until <= now:
                why = "the deadline has passed"
            elif not self.breaker.allows(now):
                why = "the cloud did not answer lately"
            elif not self._budget.try_spend(len(body), now):
                why = "the offload budget is used up"
            else:
                try:
                    found = await ask(body, judged.until - now)
                except HeliographError as error:
                    why = str(error)
                    if is_overload(error):
                        self.breaker.succeeded()
                    else:
                        self.breaker.failed(self._clock())
                else:
                    self.breaker.succeeded()
                    return self._cloud_answer(judged, found, len(body))
        if self.spec.fallback == "edge":
            return self.edge_answer(judged)
        self.count_error(hard=True)
        raise Unreachable(f"service {self.name}: {why}")

    def count_error(self, *, hard: bool = False) -> None:
        """Count a request that is answered with an error."""
        with self._lock:
            self.counts.errors += 1
            self.counts.hard += hard

    def _cloud_answer(self, judged: Judged, found: dict[str, Any], size: int) -> Answer:
        result, scores = found.get("result"), found.get("scores")
        answer = Answer(result, scores, "cloud", False, self._clock() - judged.began)
        same = _equal(result, self._after(judged.scores))
        with self._lock:
            self.counts.by_cloud += 1
            self.counts.hard += 1
            self.counts.compared += 1
            self.counts.agreed += same
            self.counts.bytes_offloaded += size
            self.counts.add_latency(answer.seconds)
        return answer


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(np.array_equal(np.asarray(one), np.asarray(other)))
    except (ValueError, TypeError):
        return False
