"""The stored memories of tasks whose strategies compare edges: beside the close records, one for each task.

A memory is written before the task's step that follows from it. A coordinator that is lost in between leaves one that
has the round already; taking the round's record again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from heliograph.bus.contract import close_record
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.resources import FederatedTask
from heliograph.bus.transport import KeyValue
from heliograph.coordinator.features.federated.participation.memory import NOTHING, Memory, after, dump, load
from heliograph.coordinator.features.federated.participation.strategies import needs_memory
from heliograph.core.errors import Conflict, Refused


class ParticipationMemory:
    """Reads and writes memories; ``known`` has those that were read.

    Args:
        rounds: bucket of the close records.
        warn: called with a line about a memory that nobody can read: its task begins a new one.
    """

    def __init__(self, rounds: KeyValue, warn: Callable[[str], None]) -> None:
        self._rounds = rounds
        self._warn = warn
        self._known: dict[str, Memory] = {}
        """By uid of the task."""

    def known(self, task: FederatedTask) -> Memory:
        """Return a task's memory, as far as it was read."""
        return self._known.get(task.metadata.uid, NOTHING)

    async def read(self, task: FederatedTask) -> None:
        """Read a task's memory, once, if its strategy needs one."""
        uid = task.metadata.uid
        if uid not in self._known and needs_memory(task):
            self._known[uid] = (await self._stored(uid))[0]

    async def take(self, task: FederatedTask, closed: Aggregation) -> None:
        """Add what a task's present round has told, if its strategy needs that."""
        uid, status = task.metadata.uid, task.status
        if not needs_memory(task) or status.phase != "Running" or (closed.job_uid, closed.round) != (uid, status.round):
            return
        while True:
            memory, revision = await self._stored(uid)
            newer = after(memory, closed)
            try:
                if newer is not memory:
                    await self._rounds.put(close_record.participation_key(uid), dump(newer), revision)
            except Conflict:
                continue
            self._known[uid] = newer
            return

    async def carry(self, task: FederatedTask, uid: str) -> None:
        """Give a task's memory to the run of another uid that goes on after it."""
        memory, _ = await self._stored(task.metadata.uid)
        if memory is not NOTHING:
            await self._rounds.put(close_record.participation_key(uid), dump(memory))

    def forget(self, uid: str) -> None:
        """Forget a task that has ended. What is stored goes with its close records."""
        self._known.pop(uid, None)

    async def _stored(self, uid: str) -> tuple[Memory, int]:
        """Return a memory with its revision; 0 where there is none."""
        entry = await self._rounds.get(close_record.participation_key(uid))
        if entry is None:
            return NOTHING, 0
        try:
            return load(entry.value), entry.revision
        except Refused as error:
            self._warn(f"{close_record.participation_key(uid)}: {error}; it begins anew")
            return NOTHING, entry.revision
