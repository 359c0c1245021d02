"""Write the labelled samples of a round as shards, each in training's part or the held-out one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from heliograph.bus.contract.buckets import SHARDS
from heliograph.bus.contract.resources import ShardRef
from heliograph.bus.contract.resources.incremental_learning_job import EvaluationRule
from heliograph.bus.transport import Bus
from heliograph.core.membership import HeldOut
from heliograph.core.world import World
from heliograph.incremental.shards import LabelledSample, divided, shard_file


@dataclass(frozen=True)
class WrittenShard:
    """A shard that is in its bucket, with the ids of its samples."""

    ref: ShardRef
    ids: tuple[str, ...]


async def write_shards(
    samples: Sequence[LabelledSample], rule: EvaluationRule, first: int, schema_version: int, bus: Bus, world: World
) -> list[WrittenShard]:
    """Store samples as shards, numbered from ``first``, and return them."""
    store = await bus.blobs(SHARDS)
    found: list[WrittenShard] = []
    with TemporaryDirectory(prefix="heliograph-shards-") as directory:
        for group, is_held_out in divided(samples, HeldOut(rule.held_out, rule.salt)):
            file, ref = await world.in_thread(shard_file, group, Path(directory), schema_version)
            placed = await store.put(file, ref)
            file.unlink()
            shard = ShardRef(number=first + len(found), held_out=is_held_out, samples=len(group), weights=placed)
            found.append(WrittenShard(shard, tuple(each.digest for each in group)))
    return found
