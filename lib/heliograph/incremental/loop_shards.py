"""The shards of a loop: which a training learns from, which an evaluation measures with, and which are kept. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from heliograph.bus.contract.resources import LoopState
from heliograph.bus.contract.resources.learning_tasks import ShardRef

EVALUATION_SHARDS = 256
"""Shards of held-out samples that an evaluation uses: the newest."""


def to_learn(state: LoopState, model: str) -> list[ShardRef]:
    """Return the shards that a training of a model uses: what its deployed version has not learned."""
    return [shard for shard in state.shards if not shard.held_out and model not in shard.learned]


def to_measure(state: LoopState) -> list[ShardRef]:
    """Return the shards of held-out samples that an evaluation uses."""
    return [shard for shard in state.shards if shard.held_out][-EVALUATION_SHARDS:]


def waiting_in_shards(state: LoopState) -> int:
    """Return the number of samples in shards that no training has succeeded with: they are still new."""
    return sum(shard.samples for shard in state.shards if not shard.round and not shard.held_out)


def trained_on(state: LoopState) -> list[ShardRef]:
    """Return the shards after a training has succeeded: their samples are new no more."""
    return [shard.model_copy(update={"round": state.round}) if not shard.round else shard for shard in state.shards]


def kept_after(state: LoopState, models: Collection[str], deployed: Sequence[str]) -> list[ShardRef]:
    """Return the shards that a loop keeps after a round: without those that all its models have learned, and without
    old held-out ones.

    Args:
        deployed: the models whose candidates the round has deployed.
    """
    shards = [_learned(shard, deployed) for shard in state.shards]
    kept = [shard for shard in shards if shard.held_out or not set(models) <= set(shard.learned)]
    held_out = [shard.number for shard in kept if shard.held_out]
    oldest = set(held_out[: max(0, len(held_out) - EVALUATION_SHARDS)])
    return [shard for shard in kept if shard.number not in oldest]


def _learned(shard: ShardRef, deployed: Sequence[str]) -> ShardRef:
    if shard.held_out or not shard.round or not deployed:
        return shard
    return shard.model_copy(update={"learned": [*shard.learned, *(n for n in deployed if n not in shard.learned)]})
