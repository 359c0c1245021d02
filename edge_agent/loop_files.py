"""Shards, memories and weights of this node's loops, as files beside its models."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from heliograph.bus.contract.resources import ShardRef
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.resources.incremental_learning_job import EvaluationRule
from heliograph.bus.contract.weights_header import check_file, check_inline
from heliograph.core.durable_files import write_durably
from heliograph.core.errors import Refused
from heliograph.core.membership import HeldOut
from heliograph.core.world import World
from heliograph.edge_agent.launcher import WorkerFiles
from heliograph.incremental.shards import LabelledSample, divided, shard_file


class LoopFiles:
    """Files in the directory of this node's models, named by their digest.

    Args:
        workers: the files that workers have staged.
    """

    def __init__(self, directory: Path, workers: WorkerFiles, world: World) -> None:
        self._directory = directory
        self._workers = workers
        self._world = world

    async def adopted(self, worker: str, ref: WeightsRef) -> WeightsRef:
        """Lay what a worker has made among this node's files, proven, and return the reference to it there. Raise
        Refused where the worker has staged no such file, or it is not what its digest says."""
        placed = WeightsRef(digest=ref.digest, size=ref.size)
        target = self._directory / ref.digest
        if ref.inline is not None:
            check_inline(ref)
            await self._world.in_thread(write_durably, target, [ref.inline])
            return placed
        if not target.exists():
            staged = await self._workers.staged(worker, ref.digest)
            if staged is None:
                raise Refused("missing", field="weights.digest", expected=f"weights that worker {worker} has staged",
                              got=ref.digest)  # fmt: skip
            await self._world.in_thread(check_file, staged, placed, True)
            await self._world.in_thread(_move, staged, target)
            await self._workers.discard(worker, ref.digest)
        return placed

    async def write_shards(
        self, samples: Sequence[LabelledSample], rule: EvaluationRule, first: int, schema_version: int
    ) -> list[tuple[ShardRef, list[str]]]:
        """Write samples as shards, numbered from ``first``, each in training's part or the held-out one. Return them
        with the ids of their samples."""
        found: list[tuple[ShardRef, list[str]]] = []
        for group, is_held_out in divided(samples, HeldOut(rule.held_out, rule.salt)):
            _, ref = await self._world.in_thread(shard_file, group, self._directory, schema_version)
            shard = ShardRef(number=first + len(found), held_out=is_held_out, samples=len(group), weights=ref)
            found.append((shard, [each.digest for each in group]))
        return found


def _move(source: Path, target: Path) -> None:
    """Copy across file systems where a rename does not reach."""
    unfinished = target.with_name(f"{target.name}.part")
    shutil.copyfile(source, unfinished)
    unfinished.replace(target)
