"""Decide what the loop does next. Pure; ``loop`` has the states that follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from heliograph.bus.contract.resources.incremental_learning_job import IncrementalLearningJobSpec
from heliograph.bus.contract.resources.learning_progress import AskedStep, LoopState
from heliograph.bus.contract.resources.triggers import Triggers
from heliograph.incremental import canary, triggers
from heliograph.incremental.canary import CanaryFacts
from heliograph.incremental.drift.shares import shares
from heliograph.incremental.loop import seconds
from heliograph.incremental.loop_shards import to_learn, waiting_in_shards
from heliograph.incremental.triggers import TriggerFacts

BY_HAND = "by hand"


@dataclass(frozen=True)
class Facts:
    """What the loop is decided on.

    Attributes:
        new_samples: labelled samples that no shard has yet.
        began: time at which the job began.
        drifts: of each edge that serves a model of the job, what detectors of drift have seen; see ``drift.shares``.
        canaries: model to what the inference workers have counted since its candidate began to answer.
    """

    new_samples: int = 0
    began: float = 0.0
    drifts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    canaries: Mapping[str, CanaryFacts] = field(default_factory=dict)


@dataclass(frozen=True)
class Begin:
    """Begin a round: the waiting samples become shards, and each model is trained."""

    reason: str


@dataclass(frozen=True)
class Evaluate:
    """Measure the candidates beside the champions."""


@dataclass(frozen=True)
class Deploy:
    """Let the candidates that have passed answer requests."""


@dataclass(frozen=True)
class Promote:
    """Let a model's candidate answer all requests."""

    model: str


@dataclass(frozen=True)
class RollBack:
    """Take a model's candidate back."""

    model: str
    reason: str


@dataclass(frozen=True)
class End:
    """End the round."""


@dataclass(frozen=True)
class Look:
    """Take note of a look at a step's trigger that begins nothing: the next one is ``checkSeconds`` later."""

    step: AskedStep


Action = Begin | Evaluate | Deploy | Promote | RollBack | End | Look


def decide(state: LoopState, spec: IncrementalLearningJobSpec, facts: Facts, now: float) -> Action | None:
    """Return what is to be done now; None while there is nothing to do but to wait."""
    match state.step:
        case "waiting":
            return _begin(state, spec, facts, now)
        case "trained":
            return _follow(state, spec.evaluate, "evaluation", Evaluate(), facts, now)
        case "evaluated":
            return _follow(state, spec.deploy, "deployment", Deploy(), facts, now)
        case "canary" | "watching":
            return _on_canaries(state, spec, facts, now)
    return None


def next_look(state: LoopState, spec: IncrementalLearningJobSpec, facts: Facts, now: float) -> float | None:
    """Return the time at which time alone may bring the next action; None where it cannot."""
    since = seconds(state.step_since)
    found: list[float | None] = []
    match state.step:
        case "waiting":
            found.append(triggers.next_look(spec.train, _trigger_facts(state, "training", facts), now))
            found.append(seconds(state.not_before))
        case "trained" if spec.evaluate is not None:
            found.append(triggers.next_look(spec.evaluate, _trigger_facts(state, "evaluation", facts), now))
        case "evaluated" if spec.deploy is not None:
            found.append(triggers.next_look(spec.deploy, _trigger_facts(state, "deployment", facts), now))
        case "training" | "evaluating":
            found.append(since + spec.step_deadline_seconds)
        case "canary" if spec.deployment.canary is not None:
            found.append(since + spec.deployment.canary.deadline_seconds)
        case "watching" if spec.deployment.canary is not None:
            found.append(since + spec.deployment.canary.watch_seconds)
    return min((time for time in found if time is not None and time > now), default=None)


def why_ended(
    state: LoopState, spec: IncrementalLearningJobSpec, metric: float | None, began: str, now: str
) -> str | None:
    """Return why the job has succeeded; None while it goes on. A round that has begun is ended first."""
    if state.step != "waiting":
        return None
    stop = spec.stop
    if stop.rounds is not None and state.round >= stop.rounds:
        return f"{state.round} rounds"
    if stop.metric is not None and metric is not None and metric >= stop.metric:
        return f"{spec.evaluation.metric} {metric:.4g} of {stop.metric:g}"
    if stop.seconds is not None and seconds(now) - seconds(began) >= stop.seconds:
        return f"{stop.seconds:g} s"
    return None


def _begin(state: LoopState, spec: IncrementalLearningJobSpec, facts: Facts, now: float) -> Action | None:
    if "training" in state.asked:
        return Begin(BY_HAND)
    if now < seconds(state.not_before):
        return None
    asked = _trigger_facts(state, "training", facts)
    if not asked.new_samples:
        if not any(to_learn(state, each.model.name) for each in spec.models):
            return None  # nothing to learn from
        # a metric stays low while nothing better is deployed: the same samples would be trained on for ever
        asked = replace(asked, metrics={})
    return _look(spec.train, "training", Begin, asked, now)


def _follow(
    state: LoopState, rule: Triggers | None, step: AskedStep, action: Action, facts: Facts, now: float
) -> Action | None:  # fmt: skip
    if rule is None or step in state.asked:
        return action
    return _look(rule, step, lambda reason: action, _trigger_facts(state, step, facts), now)


def _look(
    rule: Triggers, step: AskedStep, action: Callable[[str], Action], asked: TriggerFacts, now: float
) -> Action | None:  # fmt: skip
    """Return the step's action where its trigger holds, and the look itself where that counts."""
    if (reason := triggers.decide(rule, asked, now)) is not None:
        return action(reason)
    return Look(step) if rule.check_seconds and triggers.is_looked_at(rule, asked, now) else None


def read_counts(state: LoopState, spec: IncrementalLearningJobSpec) -> bool:
    """Return whether what inference workers tell may bring the next step."""
    rules = [rule for rule in (spec.train, spec.evaluate, spec.deploy) if rule is not None]
    return state.step in ("canary", "watching") or any(map(triggers.detectors, rules))


_TIMES: Mapping[AskedStep, str] = {
    "training": "trained_at", "evaluation": "evaluated_at", "deployment": "deployed_at",
}  # fmt: skip


def _trigger_facts(state: LoopState, step: AskedStep, facts: Facts) -> TriggerFacts:
    last = seconds(getattr(state, _TIMES[step]))
    return TriggerFacts(
        new_samples=facts.new_samples + waiting_in_shards(state),
        began=last or facts.began,
        scheduled_from=0.0 if step == "training" else seconds(state.step_since),
        looked=seconds(state.looked.get(step, "")),
        metrics=state.metrics,
        deployed=state.deployed_metrics,
        drifting=shares(facts.drifts, last or facts.began),
    )


def _on_canaries(state: LoopState, spec: IncrementalLearningJobSpec, facts: Facts, now: float) -> Action | None:
    rule = spec.deployment.canary
    wanted = "canary" if state.step == "canary" else "deployed"
    passed = now - seconds(state.step_since)
    undecided = [name for name, each in state.candidates.items() if each.step == wanted]
    if rule is None or not undecided:
        return End()
    answers = []
    for name in undecided:
        counted = facts.canaries.get(name, CanaryFacts())
        if counted.taken_back:
            return RollBack(name, BY_HAND)
        answer, why = (canary.judge if wanted == "canary" else canary.watch)(rule, counted, passed)
        if answer == "roll-back":
            return RollBack(name, why)
        if answer == "promote" and wanted == "canary":
            return Promote(name)
        answers.append(answer)
    return End() if all(answer == "promote" for answer in answers) else None
