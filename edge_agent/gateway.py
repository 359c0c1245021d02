"""The agent's gateway on the node: append the events of its workers to the journal, each once and in order, and
acknowledge them when they are on disk. ``devices`` does so for the node's devices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from heliograph.bus.contract import payloads, registry, topics
from heliograph.bus.contract.event import Event, decode
from heliograph.bus.contract.payloads import Ack
from heliograph.bus.contract.topics import Topic
from heliograph.bus.port import Port, check_signed
from heliograph.bus.transport import Message, require_live
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.names import is_label
from heliograph.core.tasks import Background
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.producers import WORKER, ProducerWatch, key_of, split_key
from heliograph.edge_agent.supervised_worker import Worker

ACK_EVERY = 0.005
"""Seconds between two acknowledgements: each is a message, and a producer with room in its window waits for none."""


class Gateway:
    """Takes the workers' events.

    Args:
        workers: the workers that the agent launched, by name; only they may publish results.
        refused: called with (topic, error) for each refused message.
        watch: takes note of what a producer must not do with its numbers.
        hold_back: returns what is journalled for a worker's event.
    """

    def __init__(
        self,
        port: Port,
        edge: str,
        journal: Journal,
        workers: Mapping[str, Worker],
        background: Background,
        refused: Callable[[str, Exception], None],
        watch: ProducerWatch,
        hold_back: Callable[[Topic[Any], Event, NewEvent], NewEvent] = lambda topic, event, entry: entry,
    ) -> None:
        self._hold_back = hold_back
        self._port = port
        self._edge = edge
        self._journal = journal
        self._workers = workers
        self._background = background
        self._refused = refused
        self.listening = asyncio.Event()
        """Set once the gateway has subscribed on the node's broker."""
        self.refusals = 0
        self._watch = watch
        self._heads: dict[asyncio.Future[None], dict[str, tuple[str, int]]] = {}
        self._to_acknowledge: dict[str, Ack] = {}

    async def run(self) -> None:
        """Take events until cancelled."""
        patterns = [
            topic.filter(**({"edge": self._edge} if "edge" in topic.params else {}))
            for topic in registry.declared().topics
            if topic.delivery == "event" and topic.bridged == "up" and WORKER in topic.publishers
        ]
        async with self._port.bus.subscribe(*patterns) as messages:
            self.listening.set()
            async for message in messages:
                try:
                    self._receive(message)
                except Exception as error:  # the message's own, whatever it is: the next one is taken all the same
                    self.refusals += 1
                    self._refused(message.topic, error)
                del message  # free its memory while the next one is awaited
                await self._journal.wait_for_room()

    def _receive(self, message: Message) -> None:
        require_live(message)
        topic, params = registry.find(message.topic)
        if len(message.body) > topic.max_size:
            raise Refused("too-large", topic=message.topic, expected=f"at most {topic.max_size} bytes",
                          got=f"{len(message.body)} bytes")  # fmt: skip
        event = self._from_worker(topic, params, message)
        if event.sequence is None:
            entry = NewEvent(message.topic, message.body, topic.lane)
        else:
            _, name, incarnation = _source(event, message.topic)
            producer = key_of(WORKER, name)
            entry = NewEvent(message.topic, message.body, topic.lane, producer, incarnation, event.sequence)
            if not self._is_next(entry, event):  # a repeated event, or one behind a gap: acknowledge what is on disk
                self._acknowledge(producer, incarnation, self._journal.committed(producer, incarnation))
                return
        kept = self._journal.append(self._hold_back(topic, event, entry))
        if kept not in self._heads:
            self._heads[kept] = {}
            kept.add_done_callback(self._committed)
        if entry.producer:
            self._heads[kept][entry.producer] = (entry.incarnation, entry.sequence)

    def _is_next(self, entry: NewEvent, event: Event) -> bool:
        """Return whether this is the producer's next event. Take note of anomalies."""
        if not self._journal.accepts(entry):
            known = self._journal.newest(entry.producer)
            self._watch.out_of_order(entry.producer, entry.incarnation, entry.sequence, known, event.id)
            return False
        if entry.sequence > 1:
            return True
        before, _ = self._journal.newest(entry.producer)
        return self._watch.may_begin(entry.producer, entry.incarnation, before, event.id)

    def _committed(self, kept: asyncio.Future[None]) -> None:
        """Acknowledge a commit's events, once to each producer; report a commit that failed."""
        heads = self._heads.pop(kept)
        if kept.cancelled():
            return
        if error := kept.exception():
            self.refusals += 1
            self._refused("", Refused("not-kept", expected="room in the journal", got=str(error)))
            return
        for producer, (incarnation, sequence) in heads.items():
            self._acknowledge(producer, incarnation, sequence)

    def _acknowledge(self, producer: str, incarnation: str, sequence: int) -> None:
        if not self._to_acknowledge:
            self._background.spawn(self._publish_acks())
        self._to_acknowledge[producer] = Ack(incarnation=incarnation, sequence=sequence)

    async def _publish_acks(self) -> None:
        await self._port.world.sleep(ACK_EVERY)
        acks, self._to_acknowledge = self._to_acknowledge, {}
        for producer, ack in acks.items():
            with contextlib.suppress(HeliographError):  # the producer sends again, and gets another acknowledgement
                await self._publish_ack(split_key(producer)[1], ack)

    async def _publish_ack(self, name: str, ack: Ack) -> None:
        if (worker := self._workers.get(name)) is not None:
            await self._port.publish(topics.WORKER_ACK, ack, sure=False, key=worker.secret, worker=name)

    def _from_worker(self, topic: Topic[Any], params: dict[str, str], message: Message) -> Event:
        """Return a worker's event. Raise Refused unless this agent launched the worker with the signing secret."""
        event = decode(message.body, message.topic)
        edge, name, _ = _source(event, message.topic)
        worker = launched(self._workers, name if edge == self._edge else "", message.topic, event.source)
        check_signed(event, message, worker.secret, f"{name}'s launch")
        job = worker.task.job
        bound = worker.task.inference.hard_samples_to if isinstance(worker.task, payloads.ServingTask) else None
        for field, own in (("job", (job, bound)), ("service", (job,)), ("worker", (name,))):
            if params.get(field, own[0]) not in own:
                raise Refused(f"wrong-{field}", topic=message.topic, field=field, expected=str(own[0]),
                              got=params[field])  # fmt: skip
        return event


def launched(workers: Mapping[str, Worker], name: str, topic: str, source: str = "") -> Worker:
    """Return the worker of that name. Raise Refused, naming ``topic``, unless this agent launched it."""
    worker = workers.get(name)
    if worker is None:
        raise Refused("unknown-worker", topic=topic, field="source", expected="a worker that this agent launched",
                      got=source or name)  # fmt: skip
    return worker


def _source(event: Event, topic: str) -> tuple[str, str, str]:
    parts = _labels(event.source)
    if parts is None:
        raise Refused("invalid", topic=topic, field="source", expected="<edge>/<component>/<incarnation>, DNS labels",
                      got=event.source)  # fmt: skip
    return parts


@lru_cache(maxsize=256)
def _labels(source: str) -> tuple[str, str, str] | None:
    """Split a source into its three labels; None where it has another form. Cached: a node has few producers."""
    parts = source.split("/")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 and all(map(is_label, parts)) else None
