"""Write the labelled samples of a round as shards, each in training's part or the held-out one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from heliograph.bus.contract.buckets import SHARDS
from heliograph.bus.contract.resources import ShardRef, WeightsRef
from heliograph.bus.contract.resources.incremental_learning_job import EvaluationRule
from heliograph.bus.transport import Bus
from heliograph.core.membership import HeldOut
from heliograph.core.world import World
from heliograph.incremental.shards import LabelledSample, grouped, write_shard


@dataclass(frozen=True)
class WrittenShard:
    """A shard that is in its bucket, with the ids of its samples."""

    ref: ShardRef
    ids: tuple[str, ...]


async def write_shards(
    samples: Sequence[LabelledSample], rule: EvaluationRule, first: int, schema_version: int, bus: Bus, world: World
) -> list[WrittenShard]:
    """Store samples as shards, numbered from ``first``, and return them."""
    held_out = HeldOut(rule.held_out, rule.salt)
    parts = ([each for each in samples if each.digest not in held_out],
             [each for each in samples if each.digest in held_out])  # fmt: skip
    store = await bus.blobs(SHARDS)
    found: list[WrittenShard] = []
    with TemporaryDirectory(prefix="heliograph-shards-") as directory:
        for part, is_held_out in zip(parts, (False, True), strict=True):
            for group in grouped(part):
                file, ref = await world.in_thread(_write, group, Path(directory), schema_version)
                placed = await store.put(file, ref)
                file.unlink()
                shard = ShardRef(number=first + len(found), held_out=is_held_out, samples=len(group), weights=placed)
                found.append(WrittenShard(shard, tuple(each.digest for each in group)))
    return found


def _write(group: Sequence[LabelledSample], directory: Path, schema_version: int) -> tuple[Path, WeightsRef]:
    """Write a shard as a file, a small one too: a desired document has no room for it."""
    ref = write_shard(group, directory, schema_version)
    file = directory / ref.digest
    if ref.inline is not None:
        file.write_bytes(ref.inline)
    return file, WeightsRef(digest=ref.digest, size=ref.size)
