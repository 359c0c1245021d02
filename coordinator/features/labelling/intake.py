"""The hard samples of one job or service become tasks of its queue: each sample once, however often it comes."""

from __future__ import annotations

import asyncio

from heliograph.bus.contract.payloads import HardSample, LabelTask
from heliograph.bus.contract.topics import HARD_SAMPLE
from heliograph.bus.port import Received
from heliograph.bus.transport import KeyValue, Message
from heliograph.coordinator.feature import ControllerContext
from heliograph.core.errors import Refused
from heliograph.core.tasks import Flag
from heliograph.labelling.samples import Sample, predictions_of, sample_of
from heliograph.labelling.task_queue import TaskQueue

AT_ONCE, BYTES_AT_ONCE = 64, 8 << 20
"""Samples, and bytes, that are stored together."""
HELD_BYTES = 16 << 20
"""Bytes of samples that wait to be stored, at most, besides the newest one; as many are under way from the broker."""
SAVE_EVERY = 256
"""Samples after which the position in the stream is stored; a fault repeats as many, and a repeated one is no task."""


class SampleIntake:
    """Follows the stream of hard samples for one queue. A queue that is made later takes the samples that the stream
    still has.

    Args:
        positions: the bucket that keeps the position in the stream, under ``position.<queue uid>``.
    """

    def __init__(self, context: ControllerContext, queue: TaskQueue, positions: KeyValue) -> None:
        self._context = context
        self._queue = queue
        self._positions = positions
        self._key = f"position.{queue.uid}"
        self._stored = -1
        self._done = 0
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(2 * AT_ONCE)
        self._held = 0
        self._room = Flag()

    async def run(self) -> None:
        """Store samples until cancelled: those that have come meanwhile together."""
        entry = await self._positions.get(self._key)
        self._stored = self._done = int(entry.value) if entry is not None and entry.value.isdigit() else 0
        self._waiting, self._held = asyncio.Queue(2 * AT_ONCE), 0
        async with asyncio.TaskGroup() as group:
            group.create_task(self._store())
            group.create_task(self._receive())

    async def save(self) -> None:
        """Store the position, if it has changed."""
        if self._done > self._stored >= 0:
            done = self._done
            await self._positions.put(self._key, str(done).encode())
            self._stored = done

    async def forget(self) -> None:
        """Delete the position: the queue has been deleted."""
        await self._positions.delete(self._key)

    async def _receive(self) -> None:
        pattern = HARD_SAMPLE.filter(job=self._queue.job)
        async with self._context.port.bus.consume(pattern, start=self._done + 1, max_bytes=HELD_BYTES) as messages:
            async for message in messages:
                while self._held > HELD_BYTES:
                    self._room.clear()
                    await self._room.wait()
                self._held += len(message.body)
                await self._waiting.put(message)

    async def _store(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            size = len(batch[0].body)
            while len(batch) < AT_ONCE and size < BYTES_AT_ONCE and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
                size += len(batch[-1].body)
            found: list[tuple[LabelTask, Sample]] = []
            for message in batch:
                with self._context.failures.contain(message.topic):
                    if (task := self._read(message)) is not None:
                        found.append(task)
            if found:
                await self._queue.add_all(found)
            self._held -= size
            self._room.set()
            self._done = batch[-1].sequence
            if self._done - self._stored >= SAVE_EVERY:
                await self.save()

    def _read(self, message: Message) -> tuple[LabelTask, Sample] | None:
        """Return the task of a hard sample, with the sample; None where it carries none."""
        received = self._context.port.read(HARD_SAMPLE, message)
        _check_address(received)
        hard = received.payload
        sample = sample_of(hard)
        if sample is None:
            self._queue.leave_out()
            return None
        schema = self._queue.spec.label_schema
        task = LabelTask(
            job=self._queue.job,
            queue_uid=self._queue.uid,
            task=sample.digest,
            edge=hard.edge,
            data=sample.data,
            schema_version=schema.version,
            overlap=self._queue.spec.overlap,
            predictions=predictions_of(hard, schema),
            created=self._context.port.world.timestamp(),
        )
        return task, sample


def _check_address(received: Received[HardSample]) -> None:
    """Raise Refused where a sample says another job or edge than its topic, which the broker has checked."""
    for name, value in (("job", received.payload.job), ("edge", received.payload.edge)):
        if received.params[name] != value:
            raise Refused("invalid", topic=received.message.topic, field=name, expected=received.params[name],
                          got=value)  # fmt: skip
