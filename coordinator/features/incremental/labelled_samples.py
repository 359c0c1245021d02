"""The labelled samples of a job's queue: which wait for a training, and which are in a shard already.

The truth is in three buckets: the tasks with their labels, the samples, and the ids of each shard. What is held in
memory is read from there when this coordinator begins to lead, and follows the stream of labels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from pydantic import ValidationError

from heliograph.bus.contract import buckets
from heliograph.bus.contract.resources import IncrementalLearningJob, LabelQueue
from heliograph.bus.contract.topics import LABEL
from heliograph.bus.transport import KeyValue
from heliograph.coordinator.feature import ControllerContext
from heliograph.core.failures import Failures
from heliograph.core.tasks import Flag
from heliograph.incremental.labelled import labelled_sample
from heliograph.incremental.shards import LabelledSample
from heliograph.labelling.task_state import TaskState

ID_BYTES = 32
READ_TOGETHER = 64
"""Samples that are read from their bucket before others have their turn."""


class LabelledSamples:
    """The labelled samples of all jobs.

    Args:
        changed: called when a sample has been labelled.
    """

    def __init__(self, context: ControllerContext, changed: Flag) -> None:
        self._context = context
        self._changed = changed
        self._failures: Failures = context.failures
        self._settled: dict[str, dict[str, None]] = {}
        """By the queue's uid: the tasks with a label, in the order in which they were labelled."""
        self._used: dict[str, set[str]] = {}
        """By the job's uid: the samples that are in its shards."""
        self._unusable: dict[str, set[str]] = {}
        """By the queue's uid: the tasks whose sample is gone, or whose label no model learns."""
        self._next = 1

    async def prepare(self) -> None:
        """Open the buckets, and note where the stream of labels goes on."""
        bus = self._context.port.bus
        self._tasks, self._samples = await bus.kv(buckets.LABELS), await bus.kv(buckets.SAMPLES)
        self._ids: KeyValue = await bus.kv(buckets.LEARNING)
        self._settled.clear()
        self._used.clear()
        self._next = await bus.last_sequence(LABEL.stream_name) + 1

    async def follow(self) -> None:
        """Take note of labels until cancelled."""
        async with self._context.port.bus.consume(LABEL.filter(), start=self._next) as messages:
            async for message in messages:
                with self._failures.contain(message.topic):
                    label = self._context.port.read(LABEL, message).payload
                    known = self._settled.get(label.queue_uid)
                    if known is not None and label.phase == "labelled" and label.task not in known:
                        known[label.task] = None
                        self._changed.set()
                self._next = message.sequence + 1

    async def know(self, job: IncrementalLearningJob, queue: LabelQueue) -> None:
        """Read what is stored of a job and its queue, once."""
        uid = queue.metadata.uid
        if uid not in self._settled:
            self._settled[uid] = {}  # labels that come meanwhile are noted
            self._settled[uid] |= dict.fromkeys(await self._settled_tasks(uid))
        if (owner := job.metadata.uid) not in self._used:
            found: set[str] = set()
            for entry in await self._ids.entries(f"{owner}."):
                number = entry.key.rpartition(".")[2]
                if number.isdigit() and int(number) >= job.status.loop.next_shard:
                    await self._ids.delete(entry.key)  # a coordinator was killed before the job named the shard
                else:
                    found.update(_ids(entry.value))
            self._used[owner] = found

    def waiting(self, job: IncrementalLearningJob, queue: LabelQueue) -> list[str]:
        """Return the tasks with a label that are in no shard of the job, in the order of their labels."""
        used, unusable = self._used.get(job.metadata.uid, ()), self._unusable.get(queue.metadata.uid, ())
        settled = self._settled.get(queue.metadata.uid, ())
        return [task for task in settled if task not in used and task not in unusable]

    def leave_out(self, queue: LabelQueue, tasks: Collection[str], read: Collection[LabelledSample]) -> None:
        """Take note of tasks that ``read`` has left out: they wait no more."""
        gone = set(tasks) - {each.digest for each in read}
        if gone:
            self._unusable.setdefault(queue.metadata.uid, set()).update(gone)
            self._context.warn(f"label queue {queue.name}: {len(gone)} labelled samples are gone, or have labels that "
                               "no model learns")  # fmt: skip

    def labelled(self, queue: LabelQueue) -> int:
        """Return the number of tasks with a label, as far as the queue still has them."""
        return len(self._settled.get(queue.metadata.uid, ()))

    async def read(self, queue: LabelQueue, tasks: Sequence[str], classes: Sequence[str]) -> list[LabelledSample]:
        """Return these tasks' samples with their labels. Those whose sample is gone, and labels that no model learns
        (several classes, regions, a text), are left out."""
        index = {name: place for place, name in enumerate(classes)}
        found = []
        for number, task in enumerate(tasks):
            if (sample := await self._read(f"{queue.metadata.uid}.{task}", task, index)) is not None:
                found.append(sample)
            if number % READ_TOGETHER == 0:
                await self._context.port.world.sleep(0)
        return found

    async def note(self, job: IncrementalLearningJob, shards: Sequence[tuple[int, Collection[str]]]) -> None:
        """Store which samples new shards have, before anything names the shards."""
        for number, ids in shards:
            await self._ids.put(f"{job.metadata.uid}.{number}", b"".join(map(bytes.fromhex, ids)))

    def use(self, job: IncrementalLearningJob, ids: Collection[str]) -> None:
        """Take note that the shards with these samples belong to the job now."""
        self._used.setdefault(job.metadata.uid, set()).update(ids)

    async def forget(self, job: IncrementalLearningJob) -> None:
        """Delete what is stored of a deleted job."""
        self._used.pop(job.metadata.uid, None)
        for key in await self._ids.keys(f"{job.metadata.uid}."):
            await self._ids.delete(key)

    async def _settled_tasks(self, uid: str) -> list[str]:
        found: list[tuple[float, int, str]] = []
        for entry in await self._tasks.entries(f"{uid}."):
            try:
                state = TaskState.from_json(entry.value)
            except ValidationError:
                continue  # its position, or a damaged one, which the queue tells
            if state.phase == "labelled":
                found.append((state.settled_at, state.number, state.task.task))
        return [task for _, _, task in sorted(found)]

    async def _read(self, key: str, task: str, index: dict[str, int]) -> LabelledSample | None:
        entry, content = await self._tasks.get(key), await self._samples.get(key)
        if entry is None or content is None:
            return None
        return labelled_sample(TaskState.from_json(entry.value), content.value, index)


def _ids(stored: bytes) -> Iterator[str]:
    text = stored.hex()
    return (text[start : start + 2 * ID_BYTES] for start in range(0, len(text), 2 * ID_BYTES))
