"""The edge's side of joint inference: score a sample, decide whether it is hard, ask the cloud or fall back.

This module knows no topics.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from heliograph.bus.contract.payloads import InferenceSpec
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.incremental.drift.watch import DriftWatch
from heliograph.inference.answers import Answer, Candidate, Judged, Withheld
from heliograph.inference.breaker import Breaker
from heliograph.inference.budget import Budget
from heliograph.inference.calibration import calibrate
from heliograph.inference.counts import Counts
from heliograph.inference.features import mean_of
from heliograph.inference.hard_samples import choose
from heliograph.inference.hard_samples.rules import reads_logits, reads_scores
from heliograph.inference.inputs import pack_request
from heliograph.inference.offload import is_overload
from heliograph.inference.predictors import Prediction, Predictor, Prepared, warm

AskCloud = Callable[[bytes, float], Awaitable[dict[str, Any]]]


class Shallow:
    """A model, a rule, a breaker and a budget. ``judge`` runs the model; ``settle`` asks the cloud for hard samples.

    Attributes:
        version: digest of the weights that serve; empty for the script's own.
        candidate: another version beside it. Where it fails, the one that serves answers, and the failure counts.
    """

    def __init__(
        self,
        name: str,
        predictor: Predictor,
        spec: InferenceSpec,
        clock: Callable[[], float],
        draw: Callable[[], float],
        before: Callable[[Any], Any] | None = None,
        redact: Callable[[Any], Any] | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._now = now or clock
        self._drift = DriftWatch((), self._now)
        self.name = name
        self._redact = redact
        self._clock = clock
        self._draw = draw
        self.counts = Counts()
        self.breaker = Breaker()
        self._predictor = predictor
        self._before = before
        self._lock = threading.Lock()
        self.version = ""
        self.candidate: Candidate | None = None
        self.spec = spec
        self._budget = Budget(spec.requests_per_second, spec.bytes_per_second)
        self.configure(spec)

    def configure(self, spec: InferenceSpec) -> None:
        """Use another rule, threshold, deadline or budget from the next sample on.

        Raise Refused for an unknown rule or detector, or a bad parameter; the previous settings then stay.
        """
        rule = choose(spec.rule, spec.rule_parameters, draw=self._draw)
        if tuple(spec.drift) != self._drift.names:
            self._drift = DriftWatch(spec.drift, self._now)
        self._rule = rule
        budget = (spec.requests_per_second, spec.bytes_per_second)
        if budget != (self.spec.requests_per_second, self.spec.bytes_per_second):
            self._budget = Budget(*budget)
        self.spec = spec

    def name_classes(self, names: Sequence[str]) -> None:
        """Let the classes that a loaded version has beyond the script's own have the version's names."""
        self._predictor.name_classes(names)

    def judge(self, x: Any, deadline: float | None, began: float | None = None) -> Judged:
        """Score one sample and decide whether it is hard.

        Raise Refused if the deadline is not above 0. Errors of the model and of ``before`` propagate.
        """
        return self.judge_all([(x, deadline, began)])[0]

    def judge_all(
        self, asked: Sequence[tuple[Any, float | None, float | None]], places: Sequence[float] = ()
    ) -> list[Judged]:
        """Judge samples with their deadlines and start times; predict samples of one kind together.

        Args:
            places: of each sample, 0 to 1; they decide which ones the candidate answers. Without them it answers none.
        """
        now = self._clock()
        groups: dict[Hashable, list[int]] = {}
        seen: list[Prepared] = []
        for place, (x, deadline, _) in enumerate(asked):
            if deadline is not None and not deadline > 0:
                raise Refused("invalid", field="deadline", expected="seconds, more than 0", got=deadline)
            seen.append(self._predictor.prepare(x if self._before is None else self._before(x)))
            groups.setdefault(seen[-1].kind, []).append(place)
        found: dict[int, Judged] = {}
        for group in groups.values():
            predictions = self._predictor.predict([seen[place] for place in group])
            answers = dict(zip(group, ((each, self.version) for each in predictions), strict=True))
            if self.candidate is not None and places:
                tried = [place for place in group if places[place] < self.candidate.share]
                answers |= self._tried(self.candidate, tried, seen, answers)
            if self._drift.names:
                self._watch(answers, seen)
            for place, (prediction, version) in answers.items():
                x, deadline, began = asked[place]
                start = now if began is None else began
                until = start + (self.spec.deadline_seconds if deadline is None else deadline)
                hard = self._is_hard(prediction)
                leaves = self._leaving(x) if hard else None
                found[place] = Judged(x, prediction, hard, start, until, leaves, version)
        return [found[place] for place in range(len(asked))]

    def _watch(self, answers: Mapping[int, tuple[Prediction, str]], seen: Sequence[Prepared]) -> None:
        """Show the detectors of drift what the version that serves has seen and said."""
        for place, (prediction, version) in answers.items():
            if (value := mean_of(seen[place].value)) is not None:
                self._drift.features(value)
            if version == self.version and prediction.failure is None and prediction.kind == "scores":
                self._drift.score(float(np.max(prediction.scores)), version)
        self.counts.drift.update(self._drift.seen)

    def _tried(
        self, candidate: Candidate, places: Sequence[int], seen: Sequence[Prepared],
        served: Mapping[int, tuple[Prediction, str]],
    ) -> dict[int, tuple[Prediction, str]]:  # fmt: skip
        """Return the candidate's predictions, compared with those of the version that serves. Of a sample on which it
        fails there is none."""
        if not places:
            return {}
        try:
            predictions = candidate.predictor.predict([seen[place] for place in places])
        except Exception:  # the candidate's own: it must cost nobody an answer
            with self._lock:
                counted = self.counts.of(candidate.version)
                counted.requests += len(places)
                counted.errors += len(places)
            return {}
        found = {}
        with self._lock:
            counted = self.counts.of(candidate.version)
            for place, prediction in zip(places, predictions, strict=True):
                if prediction.failure is not None:
                    counted.requests += 1
                    counted.errors += 1
                    continue
                found[place] = prediction, candidate.version
                beside = served[place][0]
                if beside.failure is None and prediction.kind != "value":
                    counted.compared += 1
                    counted.agreed += _equal(prediction.result, beside.result)
        return found

    def check(self, example: Any = None) -> None:
        """Run the model and the rule on an example: the first request then finds them warm. Its errors propagate.

        Without one take zeros of the shape that the model names, which may be no sample of its: errors say nothing.
        """
        if example is None:
            warm(self._predictor)
            return
        prepared = self._predictor.prepare(example if self._before is None else self._before(example))
        (prediction,) = self._predictor.predict([prepared])
        self._is_hard(prediction)
        if prediction.failure is not None:
            raise prediction.failure

    def _leaving(self, x: Any) -> Any:
        """Return what may leave the node of a hard sample. An error of the hook withholds the sample."""
        if self._redact is None:
            return x
        try:
            leaves = self._redact(x)
        except Exception as error:  # the hook is the user's: what it could not redact stays here
            return Withheld(f"the redact hook failed: {type(error).__name__}: {error}"[:500])
        return Withheld("the redact hook withholds the sample") if leaves is None else leaves

    def _is_hard(self, prediction: Prediction) -> bool:
        if prediction.kind != "scores" and reads_scores(self.spec.rule):
            expected = f"scores of classes, which the rule {self.spec.rule} reads"
            raise Refused("no-scores", field="rule", expected=expected,
                          got=f"a model that gives {prediction.kind}s", hint="Use the rule never, always or random; "
                          "or make scores of the model's output by scores=.")  # fmt: skip
        as_given = reads_logits(self.spec.rule) and prediction.logits is not None
        scores = prediction.logits if as_given else prediction.scores
        return bool(self._rule(calibrate(scores, self.spec.temperature)))

    def edge_answer(self, judged: Judged) -> Answer:
        """Return the edge's own answer, marked as degraded if the sample is hard. Raise Refused if it has none."""
        result, scores = judged.prediction.result, judged.prediction.scores
        if judged.prediction.failure is not None:
            self.count_error(hard=judged.hard, version=judged.version)
            raise judged.prediction.failure
        answer = Answer(result, scores, "edge", judged.hard, self._clock() - judged.began, judged.version)
        with self._lock:
            self.counts.by_edge += 1
            self.counts.hard += judged.hard
            self.counts.degraded += judged.hard
            self.counts.add_latency(answer.seconds, judged.version)
        return answer

    async def settle(self, judged: Judged, ask: AskCloud | None) -> Answer:
        """Return the cloud's answer to a hard sample if it comes in time, and the edge's answer otherwise.

        Raise Unreachable if the cloud gave no answer to a hard sample and the fallback is ``error``, Refused if the
        edge has none either.
        """
        if not judged.hard:
            return self.edge_answer(judged)
        why = "no way to the cloud"
        if isinstance(judged.leaves, Withheld):
            why = judged.leaves.why
        elif ask is not None:
            now = self._clock()
            body = pack_request(judged.leaves, max(judged.until - now, 0.0))
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
        self.count_error(hard=True)  # no fault of the version
        raise Unreachable(f"service {self.name}: {why}")

    def count_error(self, *, hard: bool = False, version: str = "") -> None:
        """Count a request that is answered with an error; of a version's own model against that version."""
        with self._lock:
            self.counts.errors += 1
            self.counts.hard += hard
            if version:
                counted = self.counts.of(version)
                counted.requests += 1
                counted.errors += 1

    def _cloud_answer(self, judged: Judged, found: dict[str, Any], size: int) -> Answer:
        result, scores = found.get("result"), found.get("scores")
        answer = Answer(result, scores, "cloud", False, self._clock() - judged.began, judged.version)
        comparable = judged.prediction.kind != "value" and judged.prediction.failure is None
        same = comparable and _equal(result, judged.prediction.result)
        with self._lock:
            self.counts.by_cloud += 1
            self.counts.hard += 1
            self.counts.compared += comparable
            self.counts.agreed += same
            self.counts.bytes_offloaded += size
            self.counts.add_latency(answer.seconds, judged.version)
        return answer


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(np.array_equal(np.asarray(one), np.asarray(other)))
    except (ValueError, TypeError):
        return False
