"""The labelled samples of a node's loops: which wait for a training, and the shards that a round writes of them."""

from __future__ import annotations

from collections.abc import Sequence

from heliograph.bus.contract.payloads import EdgeLoop
from heliograph.bus.contract.resources import LoopState, ShardRef
from heliograph.core.errors import HeliographError
from heliograph.core.failures import Failures
from heliograph.edge_agent.labelling import EdgeLabelling
from heliograph.edge_agent.loop_files import LoopFiles
from heliograph.edge_agent.loop_store import LoopStore, StoredLoop
from heliograph.incremental import loop
from heliograph.incremental.shards import MAX_SAMPLES


class LoopSamples:
    """The samples of all loops of a node."""

    def __init__(self, store: LoopStore, labelling: EdgeLabelling, files: LoopFiles, failures: Failures) -> None:
        self._store = store
        self._labelling = labelling
        self._files = files
        self._failures = failures
        self._used: dict[str, set[str]] = {}
        """By uid: the samples that are in the loop's shards."""
        self._unusable: dict[str, set[str]] = {}
        """By uid: the labelled samples that are gone, or whose label no model learns; they wait no more."""

    def take(self, stored: StoredLoop) -> None:
        """Read what is stored of a loop's samples."""
        self._used[stored.uid] = self._store.used(stored.uid, stored.state.next_shard)
        self._unusable[stored.uid] = self._store.unusable(stored.uid)

    def forget(self, uid: str) -> None:
        """Forget a loop whose job is gone."""
        self._used.pop(uid, None)
        self._unusable.pop(uid, None)

    def waiting(self, wanted: EdgeLoop) -> list[str]:
        """Return the tasks with a label that are in no shard of a loop, in the order of their labels."""
        used, unusable = self._used.get(wanted.uid, ()), self._unusable.get(wanted.uid, ())
        return [task for task in self._labelling.settled(wanted.queue) if task not in used and task not in unusable]

    async def write_shards(
        self, name: str, wanted: EdgeLoop, state: LoopState, waiting: Sequence[str]
    ) -> tuple[LoopState, list[ShardRef]]:
        """Write waiting samples as shards, for the round that begins with them. Return the state with the classes that
        their labels are of, and the shards."""
        schema = self._labelling.schema_of(wanted.queue)
        classes = loop.with_classes(state.classes, schema.classes if schema is not None else ())
        version = schema.version if schema is not None else state.schema_version
        taken = waiting[:MAX_SAMPLES]
        samples = await self._labelling.labelled(wanted.queue, taken, classes)
        if gone := set(taken) - {each.digest for each in samples}:
            await self._leave_out(name, wanted, gone)
        shards = await self._files.write_shards(samples, wanted.spec.evaluation, state.next_shard, version)
        for shard, ids in shards:
            await self._store.note(wanted.uid, shard.number, ids)
        return state.model_copy(update={"classes": classes, "schema_version": version}), [shard for shard, _ in shards]

    def use(self, before: StoredLoop, after: StoredLoop) -> None:
        """Take note that the loop which names these shards is stored: not before, since a full disk may refuse it."""
        for number in range(before.state.next_shard, after.state.next_shard):
            self._used[after.uid].update(self._store.noted(after.uid, number))

    async def _leave_out(self, name: str, wanted: EdgeLoop, gone: set[str]) -> None:
        """Take note of tasks whose sample is gone, or whose label no model learns, as long as the queue has them."""
        known = self._unusable[wanted.uid] | gone
        left = [task for task in self._labelling.settled(wanted.queue) if task in known]
        await self._store.leave_out(wanted.uid, left)
        self._unusable[wanted.uid] = set(left)
        self._failures.add(f"incremental job {name}", HeliographError(
            f"{len(gone)} labelled samples of queue {wanted.queue} are gone, or have labels that no model learns"
        ))  # fmt: skip
