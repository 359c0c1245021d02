"""The steps of an edge's own loop that deploy: which version of its own serves, and which is on trial. Pure."""

from __future__ import annotations

from heliograph.bus.contract.payloads import CandidateModel, EdgeLoop, WorkerAsk
from heliograph.bus.contract.resources import LoopState
from heliograph.bus.contract.resources.incremental_learning_job import LearnedModel
from heliograph.edge_agent.loop_store import StoredLoop
from heliograph.incremental import loop


def deployed(wanted: EdgeLoop, stored: StoredLoop, now: str) -> StoredLoop:
    """Let the candidates that have passed answer; without a canary, or a model to be beside, all requests."""
    after = loop.deploy(stored.state, wanted.spec, now)
    for model, candidate in after.candidates.items():
        if candidate.step == "deployed" or (candidate.step == "canary" and not candidate.base):
            stored = promoted(stored, model, after)
    return stored.model_copy(update={"state": after})


def promoted(stored: StoredLoop, model: str, state: LoopState) -> StoredLoop:
    """Let a model's candidate answer all requests; what served before is kept for a way back."""
    weights = state.candidates[model].weights
    assert weights is not None
    before = {**stored.before, **({model: stored.own[model]} if model in stored.own else {})}
    if stored.own.get(model) == weights:
        before = stored.before
    return stored.model_copy(update={"state": state, "own": {**stored.own, model: weights}, "before": before})


def rolled_back(stored: StoredLoop, model: str, state: LoopState) -> StoredLoop:
    """Return to what served before: this node's own version before, or the cloud's."""
    candidate = state.candidates[model]
    if stored.own.get(model) != candidate.weights:
        return stored.model_copy(update={"state": state})  # it was on trial only
    own = {name: ref for name, ref in stored.own.items() if name != model}
    if model in stored.before:
        own[model] = stored.before[model]
    return stored.model_copy(update={"state": state, "own": own})


def asked(wanted: EdgeLoop, stored: StoredLoop) -> StoredLoop:
    """Take over the steps that somebody has asked for by hand since."""
    state = stored.state
    for step, count in wanted.asked.items():
        if count > stored.asked.get(step, 0):
            state = loop.ask(state, step)  # type: ignore[arg-type]
    return stored if dict(wanted.asked) == stored.asked else stored.model_copy(
        update={"state": state, "asked": dict(wanted.asked)}
    )  # fmt: skip


def on_trial(wanted: EdgeLoop, state: LoopState, model: str) -> CandidateModel | None:
    """Return the candidate of a model that answers a share of the requests; None where none does."""
    rule, candidate = wanted.spec.deployment.canary, state.candidates.get(model)
    if rule is None or candidate is None or candidate.step != "canary" or candidate.weights is None or wanted.stopped:
        return None
    share = rule.share if rule.by == "requests" else 1.0
    return CandidateModel(model=candidate.weights, number=state.round, share=share, salt=f"{model}-{state.round}")


def ask_of(learned: LearnedModel, wanted: EdgeLoop, stored: StoredLoop) -> WorkerAsk | None:
    """Return what a model's worker asks of this node; None where it asks for nothing."""
    asked = learned.worker_spec.resources
    if asked is None or not (asked.memory_bytes or asked.gpus):
        return None
    return WorkerAsk(memory=asked.memory_bytes, gpus=asked.gpus, priority=wanted.spec.priority, since=stored.began)
