"""The state machine of the loop: wait for samples, train, evaluate, deploy, watch, and again. Pure.

Every function takes a state and returns the next one; the same object where nothing changed. ``decisions`` says what is
to be done next; whoever runs the loop, the coordinator or an edge's agent, does it and stores the state that follows.
Times are written as the world writes them, and compared as seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from heliograph.bus.contract.payloads.learning import Candidate, VerdictReport
from heliograph.bus.contract.resources.incremental_learning_job import IncrementalLearningJobSpec
from heliograph.bus.contract.resources.learning_progress import (
    AskedStep,
    CandidateState,
    LearningRound,
    LoopState,
    Step,
)
from heliograph.bus.contract.resources.learning_tasks import ShardRef
from heliograph.core.world import rfc3339
from heliograph.incremental import loop_shards
from heliograph.incremental.round_record import record_of

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 3600.0
"""Seconds after a failed round until the next one may begin; twice as many after each further failure."""
MOST_REASON = 1024
_BEFORE: Mapping[AskedStep, Sequence[Step]] = {
    "evaluation": ("training", "trained"), "deployment": ("training", "trained", "evaluating", "evaluated"),
}  # fmt: skip
"""The steps of a round in which it has not come to an evaluation or a deployment yet."""
_LAST_TIMES = ("step_since", "trained_at", "evaluated_at", "deployed_at")
_AT_WORK = (("training", "training"), ("evaluating", "trained"))
"""Step of the round and of a candidate while a worker is at work for it."""


def begin(
    state: LoopState, spec: IncrementalLearningJobSpec, reason: str, bases: Mapping[str, str],
    shards: Sequence[ShardRef], now: str,
) -> LoopState:  # fmt: skip
    """Begin a round.

    Args:
        reason: why it begins.
        bases: model to the digest of the version that its training starts from; empty where there is none.
        shards: files of the samples that no training has used, in training's part and the held-out one.
    """
    candidates = {name: CandidateState(base=bases.get(name, "")) for name in _names(spec)}
    return _with(
        state,
        step="training",
        step_since=now,
        round=state.round + 1,
        trigger=reason[:MOST_REASON],
        candidates=candidates,
        shards=[*state.shards, *shards],
        next_shard=max([state.next_shard, *(shard.number + 1 for shard in shards)]),
        trained_at=now,
        asked=_without(state, "training"),
        not_before="",
    )


def trained(state: LoopState, came: Candidate, now: str) -> LoopState:
    """Take the candidate that a training has made. One of another round, attempt or base changes nothing."""
    if not awaits(state, came):
        return state
    known = state.candidates[came.model]
    changed = known.model_copy(
        update={"step": "trained", "weights": came.weights, "memory": came.memory, "samples": came.num_samples,
                "metrics": came.metrics}
    )  # fmt: skip
    candidates = {**state.candidates, came.model: changed}
    return _settled(_with(state, candidates=candidates, shards=loop_shards.trained_on(state)), now)


def spoiled(
    state: LoopState, spec: IncrementalLearningJobSpec, came: Candidate, why: str, now: str
) -> LoopState:  # fmt: skip
    """Begin a training once more whose candidate has come, and cannot be used."""
    return stumbled(state, spec, came.model, why, now) if awaits(state, came) else state


def awaits(state: LoopState, came: Candidate) -> bool:
    """Return whether a training is asked for that makes this candidate."""
    known = state.candidates.get(came.model)
    return (
        state.step == "training" and known is not None and known.step == "training" and came.round == state.round
        and came.attempt == known.attempt and (came.base or "") == known.base
    )  # fmt: skip


def evaluate(state: LoopState, now: str) -> LoopState:
    """Begin the evaluation of the candidates that were trained."""
    if state.step != "trained":
        return state
    return _with(state, step="evaluating", step_since=now, evaluated_at=now, asked=_without(state, "evaluation"))


def judged(state: LoopState, report: VerdictReport, now: str) -> LoopState:
    """Take the gate's verdict on a candidate. One about other weights, or of another attempt, changes nothing."""
    known = state.candidates.get(report.model)
    if (
        state.step != "evaluating" or known is None or known.step != "trained" or report.round != state.round
        or report.attempt != known.attempt or known.weights is None or report.candidate != known.weights.digest
    ):  # fmt: skip
        return state
    figures = report.figures
    passes = figures.decision == "passes"
    reason = "" if passes else f"{figures.decision}: {'; '.join(figures.reasons)}"[:MOST_REASON]
    changed = known.model_copy(update={"step": "passed" if passes else "refused", "verdict": figures, "reason": reason})
    metrics = state.metrics
    if report.champion and report.model == _first(state):
        accuracy = {"accuracy": figures.champion} if figures.support else {}  # an empty set measures nothing
        metrics = {**metrics, **figures.champion_metrics, **accuracy}
    return _settled(_with(state, candidates={**state.candidates, report.model: changed}, metrics=metrics), now)


def stumbled(state: LoopState, spec: IncrementalLearningJobSpec, model: str, why: str, now: str) -> LoopState:
    """Begin a training or an evaluation that has crashed or hangs once more; fail it after the last attempt."""
    known = state.candidates.get(model)
    if known is None or (state.step, known.step) not in _AT_WORK:
        return state
    if known.attempt >= spec.attempts:
        return failed(state, model, why, now)
    changed = known.model_copy(update={"attempt": known.attempt + 1, "reason": why[:MOST_REASON]})
    return _with(state, candidates={**state.candidates, model: changed}, step_since=now)


def failed(state: LoopState, model: str, why: str, now: str) -> LoopState:
    """Fail a training or an evaluation that another attempt would not mend."""
    known = state.candidates.get(model)
    if known is None or (state.step, known.step) not in _AT_WORK:
        return state
    changed = known.model_copy(update={"step": "failed", "reason": f"{state.step}: {why}"[:MOST_REASON]})
    return _settled(_with(state, candidates={**state.candidates, model: changed}), now)


def hanging(state: LoopState, spec: IncrementalLearningJobSpec, now: float) -> list[str]:
    """Return the models whose training or evaluation has not ended in time."""
    wanted = {"training": "training", "evaluating": "trained"}.get(state.step)
    if wanted is None or now - seconds(state.step_since) < spec.step_deadline_seconds:
        return []
    return [name for name, each in state.candidates.items() if each.step == wanted]


def registered(state: LoopState, model: str, version: int) -> LoopState:
    """Take note of the number under which a candidate that has passed is registered."""
    known = state.candidates[model]
    return _with(state, candidates={**state.candidates, model: known.model_copy(update={"version": version})})


def deploy(state: LoopState, spec: IncrementalLearningJobSpec, now: str) -> LoopState:
    """Let the candidates that have passed answer: a share of the requests, or all."""
    if state.step != "evaluated":
        return state
    rule = spec.deployment.canary
    step, of_round = ("canary", "canary") if rule is not None else ("deployed", "watching")
    candidates = {name: each.model_copy(update={"step": step}) if each.step == "passed" else each
                  for name, each in state.candidates.items()}  # fmt: skip
    return _with(state, step=of_round, step_since=now, candidates=candidates, deployed_at=now,
                 asked=_without(state, "deployment"))  # fmt: skip


def promote(state: LoopState, model: str, now: str) -> LoopState:
    """Let a candidate answer all requests; watch it from when the last canary is decided."""
    return _decided(state, model, {"step": "deployed"}, now)


def roll_back(state: LoopState, model: str, reason: str, now: str) -> LoopState:
    """Take a candidate back."""
    return _decided(state, model, {"step": "rolled-back", "reason": reason[:MOST_REASON]}, now)


def end(state: LoopState, now: str) -> tuple[LoopState, LearningRound]:
    """Return the state that waits for the next round, and the record of the one that ends."""
    deployed = [name for name, each in state.candidates.items() if each.step == "deployed"]
    failed = bool(state.candidates) and all(each.step == "failed" for each in state.candidates.values())
    failures = state.failures + 1 if failed else 0
    pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 30), LONGEST_PAUSE) if failed else 0.0
    candidates = state.candidates
    metrics = _measured(state)
    waiting = _with(
        state,
        step="waiting",
        step_since=now,
        candidates={},
        shards=loop_shards.kept_after(state, candidates, deployed),
        memory={**state.memory, **{name: memory for name in deployed if (memory := candidates[name].memory)}},
        champions={**state.champions, **{name: ref.digest for name in deployed if (ref := candidates[name].weights)}},
        failures=failures,
        not_before=rfc3339(seconds(now) + pause) if failed else "",
        metrics=metrics,
        deployed_metrics=metrics if _first(state) in deployed else state.deployed_metrics,
        trigger="",
        asked=[each for each in state.asked if each == "training"],  # the other steps were asked for of this round
    )
    return waiting, record_of(state, now)


def may_ask(state: LoopState, step: AskedStep) -> bool:
    """Return whether a step may be asked for by hand: an evaluation or a deployment only of a round's own candidates,
    before it has begun."""
    return step == "training" or state.step in _BEFORE[step]


def ask(state: LoopState, step: AskedStep) -> LoopState:
    """Take note that somebody asks for a step by hand."""
    return state if step in state.asked else _with(state, asked=[*state.asked, step])


def looked(state: LoopState, step: AskedStep, now: str) -> LoopState:
    """Take note of a look of a step's trigger that has begun nothing."""
    return _with(state, looked={**state.looked, step: now})


def with_present_clock(state: LoopState, now: str) -> LoopState:
    """Return the state with times that lie ahead set to now: the clock was set back, and a schedule must not wait until
    it has caught up."""
    changes: dict[str, object] = {name: at_latest(getattr(state, name), now) for name in _LAST_TIMES}
    changes["looked"] = {step: at_latest(time, now) for step, time in state.looked.items()}
    if seconds(state.not_before) > seconds(now) + LONGEST_PAUSE:
        changes["not_before"] = ""
    present = _with(state, **changes)
    return state if present == state else present


def at_latest(time: str, now: str) -> str:
    """Return a time that has been; where it lies ahead, since the clock was set back, now."""
    return now if seconds(time) > seconds(now) else time


# what follows from a state


def files_of(state: LoopState) -> set[str]:
    """Return the digests of all files that the loop may still need."""
    refs = [shard.weights for shard in state.shards] + list(state.memory.values())
    for each in state.candidates.values():
        refs += [ref for ref in (each.weights, each.memory) if ref is not None]
    return {ref.digest for ref in refs} | {each.base for each in state.candidates.values() if each.base}


def with_classes(known: Sequence[str], wanted: Collection[str]) -> list[str]:
    """Return the classes by index with those that are new behind them: no index is ever used for another class."""
    return [*known, *(name for name in wanted if name not in known)]


def seconds(time: str) -> float:
    """Return a written time in seconds since 1970; 0 for none."""
    return datetime.fromisoformat(time).timestamp() if time else 0.0


def _decided(state: LoopState, model: str, changes: Mapping[str, object], now: str) -> LoopState:
    changed = state.candidates[model].model_copy(update=changes)
    candidates = {**state.candidates, model: changed}
    open_canary = any(each.step == "canary" for each in candidates.values())
    if state.step == "canary" and not open_canary:
        return _with(state, candidates=candidates, step="watching", step_since=now)
    return _with(state, candidates=candidates)


def _settled(state: LoopState, now: str) -> LoopState:
    """Return the state in its next step where every candidate has come to the end of this one."""
    steps = {each.step for each in state.candidates.values()}
    following: Step = state.step
    if state.step == "training" and "training" not in steps:
        following = "trained" if "trained" in steps else "watching"
    elif state.step == "evaluating" and "trained" not in steps:
        following = "evaluated" if "passed" in steps else "watching"
    return state if following == state.step else _with(state, step=following, step_since=now)


def _measured(state: LoopState) -> dict[str, float]:
    """Return the metrics of what serves of the first model after the round."""
    first = state.candidates.get(_first(state))
    if first is None or first.step != "deployed" or first.verdict is None:
        return state.metrics
    return {**state.metrics, **first.verdict.metrics, "accuracy": first.verdict.candidate}


def _first(state: LoopState) -> str:
    """Return the model whose metrics triggers look at; accuracies of two models do not compare."""
    return next(iter(state.candidates), "")


def _names(spec: IncrementalLearningJobSpec) -> list[str]:
    return [each.model.name for each in spec.models]


def _without(state: LoopState, step: AskedStep) -> list[AskedStep]:
    return [each for each in state.asked if each != step]


def _with(state: LoopState, **changes: object) -> LoopState:
    return state.model_copy(update=changes)
