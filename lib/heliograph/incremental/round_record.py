"""The record of a round that ends: what became of each model's candidate. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.contract.resources import CandidateState, LearningRound, LoopState, ModelOutcome
from heliograph.bus.contract.resources.learning_progress import Decision

_DECISIONS: Mapping[str, Decision] = {
    "deployed": "deployed", "rolled-back": "rolled-back", "failed": "failed", "refused": "refused",
}  # fmt: skip
"""What becomes of a candidate that is in this step when its round ends."""


def record_of(state: LoopState, now: str) -> LearningRound:
    """Return the record of the round that a loop is in."""
    return LearningRound(
        round=state.round,
        trigger=state.trigger,
        samples=sum(shard.samples for shard in state.shards if not shard.held_out and shard.round == state.round),
        models={name: _outcome(each) for name, each in state.candidates.items()},
        began=state.trained_at,
        ended=now,
    )


def _outcome(candidate: CandidateState) -> ModelOutcome:
    is_undecided = candidate.verdict is not None and candidate.verdict.decision == "undecided"
    return ModelOutcome(
        decision="undecided" if is_undecided else _DECISIONS.get(candidate.step, "undecided"),
        version=candidate.version,
        digest=candidate.weights.digest if candidate.weights is not None else "",
        reason=candidate.reason,
        samples=candidate.samples,
        metrics=candidate.metrics,
        verdict=candidate.verdict,
    )
