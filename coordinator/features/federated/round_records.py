"""The close records of rounds in key-value: read for a round that may have closed, deleted at the end of their life."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from itertools import islice

from heliograph.bus.contract import close_record
from heliograph.bus.contract.garbage import LISTED
from heliograph.bus.contract.resources import FederatedTask, Quarantine
from heliograph.bus.transport import KeyValue
from heliograph.coordinator.features.federated.old_rounds import old_rounds
from heliograph.coordinator.garbage.lives import Lives
from heliograph.coordinator.garbage.superfluous import Superfluous
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.world import World


class RoundRecords:
    """The records of all jobs in one bucket."""

    def __init__(self, bucket: KeyValue, store: ResourceStore, world: World) -> None:
        self._bucket = bucket
        self._store = store
        self._world = world

    async def present(self, task: FederatedTask) -> tuple[str, bytes] | None:
        """Return key and value of the record of a job's present round, if it has closed."""
        entry = await self._bucket.get(close_record.key_of(task.metadata.uid, task.status.round))
        return None if entry is None else (entry.key, entry.value)

    async def delete_of(self, task: FederatedTask) -> None:
        """Delete all records of a job."""
        for entry in await self._bucket.entries(close_record.prefix_of(task.metadata.uid)):
            await self._bucket.delete(entry.key)

    async def superfluous(self, lives: Lives) -> Sequence[Superfluous]:
        """Return the records that have come to the end of their life."""
        keys, now = await self._bucket.keys(), self._world.timestamp()
        tasks = self._store.all(FederatedTask)  # read after the keys: a record comes after its job
        strangers = await self._deleted_jobs(keys, {task.metadata.uid for task in tasks}, lives)
        old = islice(old_rounds(keys, tasks, strangers, now, lives), LISTED + 1)
        return [Superfluous("round", key, reason, partial(self._delete, key)) for key, reason in old]

    async def _deleted_jobs(self, keys: Sequence[str], known: Collection[str], lives: Lives) -> set[str]:
        """Return the uids that have records and no job for long enough: a coordinator that was cut off knows fewer
        jobs than there are. None where a document cannot be read: it may be the job's."""
        if self._store.all(Quarantine):
            return set()
        newest: dict[str, str] = {}
        for key in keys:
            if (uid := close_record.job_of(key)) not in known:
                newest[uid] = key
        entries = {uid: await self._bucket.get(key) for uid, key in newest.items()}
        before = self._world.now() - lives.blob_hours * 3600
        return {uid for uid, entry in entries.items() if entry is None or entry.at < before}

    async def _delete(self, key: str) -> bool:
        await self._bucket.delete(key)
        return True
