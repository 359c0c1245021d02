"""The tasks and labels of a queue whose location is the edge: the agents decide, the coordinator takes note."""

from __future__ import annotations

import asyncio
from typing import Any

from heliograph.bus.contract.payloads import Annotation, LabelTask
from heliograph.bus.contract.topics import LABEL, LABEL_TASK, Topic
from heliograph.bus.transport import KeyValue, Message
from heliograph.coordinator.feature import ControllerContext
from heliograph.labelling.task_queue import TaskQueue

SAVE_EVERY = 256
"""Events after which the position in a stream is stored; a fault repeats as many, which changes nothing."""


class EdgeMirror:
    """Follows the streams of tasks and of labels for one queue.

    Args:
        positions: the bucket that keeps the positions, under ``position.<queue uid>-<stream>``.
    """

    def __init__(self, context: ControllerContext, queue: TaskQueue, positions: KeyValue) -> None:
        self._context = context
        self._queue = queue
        self._positions = positions
        self._done: dict[str, int] = {}
        self._stored: dict[str, int] = {}

    async def run(self) -> None:
        """Take note until cancelled."""
        async with asyncio.TaskGroup() as group:
            for topic in (LABEL_TASK, LABEL):
                group.create_task(self._follow(topic))

    async def save(self) -> None:
        """Store the positions that have changed."""
        for key, done in self._done.items():
            if done > self._stored[key]:
                await self._positions.put(key, str(done).encode())
                self._stored[key] = done

    async def forget(self) -> None:
        """Delete the positions: the queue has been deleted."""
        for topic in (LABEL_TASK, LABEL):
            await self._positions.delete(self._key(topic))

    def _key(self, topic: Topic[Any]) -> str:
        return f"position.{self._queue.uid}-{topic.stream_name}"

    async def _follow(self, topic: Topic[Any]) -> None:
        key = self._key(topic)
        entry = await self._positions.get(key)
        start = int(entry.value) if entry is not None and entry.value.isdigit() else 0
        self._done[key] = self._stored[key] = start
        bus = self._context.port.bus
        async with bus.consume(topic.filter(job=self._queue.job), start=start + 1) as messages:
            async for message in messages:
                with self._context.failures.contain(message.topic):
                    await self._take(topic, message)
                self._done[key] = message.sequence
                if message.sequence - self._stored[key] >= SAVE_EVERY:
                    await self.save()

    async def _take(self, topic: Topic[Any], message: Message) -> None:
        received = self._context.port.read(topic, message)
        payload: LabelTask | Annotation = received.payload
        if payload.queue_uid != self._queue.uid:
            return  # of an earlier queue of that name
        edge = received.params["edge"]
        if isinstance(payload, Annotation):
            await self._queue.mirror(payload, edge)
        else:
            await self._queue.add(payload.model_copy(update={"edge": edge, "data": _elsewhere(payload, edge)}), None)


def _elsewhere(task: LabelTask, edge: str) -> Any:
    return task.data.model_copy(update={"edge": edge, "inline": None, "blob": None})
