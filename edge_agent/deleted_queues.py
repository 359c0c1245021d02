"""What the journal still has of label queues that are deleted, also of those deleted while the agent was away."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pydantic import ValidationError

from heliograph.edge_agent.label_store import JournalBucket

if TYPE_CHECKING:  # the rest is loaded for the first deleted queue
    from heliograph.bus.contract.payloads import Annotation
    from heliograph.labelling.label_store import Publish
    from heliograph.labelling.task_state import TaskState


class DeletedQueues:
    """Deletes the tasks, leases and samples of deleted queues.

    Args:
        tasks, samples: the journal's buckets, whose keys begin with the uid of a queue.
        publish: journals labels as events, which the deletion does not touch.
    """

    def __init__(self, tasks: JournalBucket, samples: JournalBucket, publish: Publish) -> None:
        self._tasks = tasks
        self._samples = samples
        self._publish = publish

    async def forget(self, followed: Collection[str], set_aside: Collection[str]) -> None:
        """Delete what belongs to no queue that is followed or set aside. Raise HeliographError where the journal takes
        no event or no deletion; what is left goes the next time.

        Args:
            followed: uids of the queues that stay.
            set_aside: names of the queues that stay and whose uid this version cannot read.
        """
        keys = [*await self._tasks.keys(), *await self._samples.keys()]
        for uid in dict.fromkeys(key.partition(".")[0] for key in keys):
            if uid not in followed and not (set_aside and await self._may_be_one_of(set_aside, uid)):
                await self._forget(uid)

    async def _may_be_one_of(self, names: Collection[str], uid: str) -> bool:
        """Return whether a queue has one of these names, as far as its tasks can be read."""
        for key in await self._tasks.keys(f"{uid}."):
            if (state := await self._state(key)) is not None:
                return state.task.job in names
        return True

    async def _forget(self, uid: str) -> None:
        from heliograph.labelling.task_index import TOLD

        told = f"{uid}.{TOLD}"
        tasks = [key for key in await self._tasks.keys(f"{uid}.") if key != told]
        await self._publish_untold(told, tasks)
        for key in tasks:
            await self._tasks.delete(key)
        for key in await self._samples.keys(f"{uid}."):
            await self._samples.delete(key)
        await self._tasks.delete(told)  # last: a task that a crash leaves would have its labels published once more

    async def _publish_untold(self, told: str, tasks: Collection[str]) -> None:
        """Publish the labels of which a fault has left no event."""
        entry = await self._tasks.get(told)
        through = int(entry.value) if entry is not None and entry.value.isdigit() else 0
        untold: dict[int, Annotation] = {}
        for key in tasks:
            if (state := await self._state(key)) is not None:
                untold.update({each.number: each.annotation for each in state.labels if each.number > through})
        if untold:
            await self._publish([annotation for _, annotation in sorted(untold.items())])
            await self._tasks.put(told, str(max(untold)).encode())

    async def _state(self, key: str) -> TaskState | None:
        """Return a stored task; None where it is damaged, or is no task."""
        from heliograph.labelling.task_state import TaskState

        entry = await self._tasks.get(key)
        try:
            return TaskState.from_json(entry.value) if entry is not None else None
        except ValidationError:
            return None
