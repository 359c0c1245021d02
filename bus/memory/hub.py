"""What a broker keeps, in memory: subscribers, streams, buckets and blobs, with the rules of JetStream that we rely on.

A stream numbers its messages, keeps the last of each address where it is told to, drops what bears the id of a message
of the last two minutes, and stores a batch whole or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from operator import itemgetter
from weakref import WeakValueDictionary

from heliograph.bus.contract import registry
from heliograph.bus.contract.lanes import EXPECTED_LAST, MESSAGE_ID
from heliograph.bus.contract.topics import Stream
from heliograph.bus.transport import KeyValueEntry, Message
from heliograph.core.errors import Conflict
from heliograph.core.names import matches

DUPLICATE_WINDOW = 120.0
"""Seconds in which a stream knows a message id again, as JetStream does unless told otherwise."""
Receive = Callable[[Message], None]


class Hub:
    """One broker. ``clock`` gives seconds, for what is forgotten after a time.

    Args:
        most_bytes: of each stream's messages, at most; the oldest go first. 0: what the stream's declaration allows.
        keeps_streams: False: a node's broker, that only passes on.
    """

    def __init__(
        self, clock: Callable[[], float] | None = None, most_bytes: int = 0, keeps_streams: bool = True
    ) -> None:
        self.clock = clock or (lambda: asyncio.get_running_loop().time())
        self.most_bytes = most_bytes
        self._keeps_streams = keeps_streams
        self.receivers = Receivers()
        self.taps: list[Receive] = []
        """Called with each message before anyone has it; no clients."""
        self.streams: dict[str, KeptStream] = {}
        self.acknowledged: dict[str, set[int]] = {}
        self.delivered: dict[str, set[int]] = {}
        self._retained: dict[str, dict[str, Message]] = {}
        """By the first word of their address, and their address."""
        self.buckets: dict[str, dict[str, KeyValueEntry]] = {}
        self.revisions: dict[str, int] = {}
        self.watching: dict[str, list[asyncio.Event]] = {}
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.clients: dict[str, int] = {}
        """How many connections bear a name."""
        self.on_clients: list[Callable[[str, bool], None]] = []
        """Called with a name when the first connection of that name has come, or the last has gone."""
        self._turns: dict[str, int] = {}

    def publish(self, topic: str, message: Message) -> int:
        """Keeps and delivers. Returns the message's place in its stream; raises Conflict where its headers expect
        another last message of its address."""
        declared = None if topic.startswith("_INBOX") else registry.lookup(topic)[0]
        if declared is not None and declared.stream is not None and self._keeps_streams:
            stream = self.stream(declared.stream)
            if known := stream.known(message, self.clock()):
                return known
            stream.append(message, self.clock())
        self.deliver(topic, message)
        return message.sequence

    def publish_all(self, messages: Sequence[Message]) -> None:
        """Messages of one stream, all of them or none. Raises Conflict where it has some of them already."""
        for message in messages:
            declared, _ = registry.find(message.topic)
            if declared.stream is not None and self.stream(declared.stream).known(message, self.clock()):
                raise Conflict(f"{message.topic}: the stream has some of these events")
        for message in messages:
            self.publish(message.topic, message)

    def repeat(self, declared: Stream, message: Message) -> None:
        """Stores and delivers one of a stream's messages again: as a broker does that has forgotten its id."""
        again = Message(message.topic, message.body, headers=message.headers)
        self.stream(declared).append(again, self.clock())
        self.deliver(again.topic, again)

    def deliver(self, topic: str, message: Message) -> None:
        """To one of each queue, and to everyone else."""
        for tap in self.taps:
            tap(message)
        queues: dict[str, list[Receive]] = {}
        for queue, receive in self.receivers.of(topic):
            if queue:
                queues.setdefault(queue, []).append(receive)
            else:
                receive(message)
        for queue, members in queues.items():
            turn = self._turns[queue] = self._turns.get(queue, -1) + 1
            members[turn % len(members)](message)

    def retain(self, topic: str, message: Message | None) -> None:
        """Keeps an address' last value for whoever subscribes later; None takes it back."""
        held = self._retained.setdefault(topic.partition("/")[0], {})
        held.pop(topic, None)
        if message is not None:
            held[topic] = message

    def retained(self, *patterns: str) -> list[Message]:
        """The kept values of the addresses that one of the patterns matches."""
        words = [pattern.partition("/")[0] for pattern in patterns]
        every = any(word in ("+", "#") for word in words)
        firsts = self._retained if every else dict.fromkeys(word for word in words if word in self._retained)
        return [
            message
            for first in firsts
            for topic, message in self._retained[first].items()
            if any(matches(pattern, topic) for pattern in patterns)
        ]

    def stream(self, declared: Stream) -> KeptStream:
        found = self.streams.get(declared.name)
        if found is None:
            found = self.streams[declared.name] = KeptStream(declared, self.most_bytes or declared.max_bytes)
        return found

    def joined(self, client: str) -> None:
        """A client of that name has connected."""
        self.clients[client] = self.clients.get(client, 0) + 1
        if self.clients[client] == 1:
            for listener in list(self.on_clients):
                listener(client, True)

    def left(self, client: str) -> None:
        self.clients[client] -= 1
        if not self.clients[client]:
            del self.clients[client]
            for listener in list(self.on_clients):
                listener(client, False)


class Receivers:
    """Who gets what is published. Patterns lie under the words before their first wildcard, so that a message meets
    only the few that may match it."""

    def __init__(self) -> None:
        self._under: dict[str, list[_Receiver]] = {}
        self._order = 0

    def add(self, pattern: str, queue: str, receive: Receive) -> Callable[[], None]:
        """Returns what takes it out again."""
        self._order += 1
        entry = (self._order, pattern, queue, receive)
        self._under.setdefault(_head(pattern), []).append(entry)
        return partial(self._remove, entry)

    def of(self, topic: str) -> list[tuple[str, Receive]]:
        """Queue and receiver of each subscription that matches, in the order in which they came."""
        found: list[_Receiver] = []
        head, below = topic, True
        while below:
            for each in self._under.get(head, ()):
                if each[1] == topic or matches(each[1], topic):
                    found.append(each)
            below = bool(head)
            head = head.rpartition("/")[0]
        if len(found) > 1:
            found.sort(key=_ORDER)
        return [(queue, receive) for _, _, queue, receive in found]

    def _remove(self, entry: _Receiver) -> None:
        head = _head(entry[1])
        here = self._under[head]
        here.remove(entry)
        if not here:
            del self._under[head]


_Receiver = tuple[int, str, str, Receive]
"""Its number, its pattern, its queue, and who receives."""
_ORDER = itemgetter(0)


def _head(pattern: str) -> str:
    return "/".join(takewhile(lambda word: word not in ("+", "#"), pattern.split("/")))


class KeptStream:
    """A stream's messages in their order, and where each address' newest one lies."""

    def __init__(self, declared: Stream, max_bytes: int) -> None:
        self._last_value = declared.last_value
        self._max_age = declared.max_age
        self._max_bytes = max_bytes
        self._kept: list[tuple[Message, float] | None] = []
        self._first = 1
        """The sequence of what lies foremost."""
        self._gone = 0
        """How many of the foremost are no longer kept."""
        self._bytes = 0
        self._newest: dict[str, int] = {}
        self._ids: dict[str, tuple[int, float]] = {}
        self.last_sequence = 0
        self._grown: list[asyncio.Future[None]] = []

    def known(self, message: Message, now: float) -> int:
        """The sequence of the message of the same id, or 0. Raises Conflict where the address' last is another than
        the message expects."""
        expected = message.headers.get(EXPECTED_LAST)
        if expected is not None and int(expected) != self._newest.get(message.topic, 0):
            raise Conflict(f"{message.topic}: its last message is {self._newest.get(message.topic, 0)}, not {expected}")
        while self._ids and (oldest := next(iter(self._ids))) and self._ids[oldest][1] < now - DUPLICATE_WINDOW:
            del self._ids[oldest]
        return self._ids.get(message.headers.get(MESSAGE_ID, ""), (0, 0.0))[0]

    def append(self, message: Message, now: float) -> None:
        message.sequence = self.last_sequence = self.last_sequence + 1
        if id := message.headers.get(MESSAGE_ID):
            self._ids[id] = (message.sequence, now)
        if self._last_value and (before := self._newest.get(message.topic)):
            self._drop(before - self._first)
        self._newest[message.topic] = message.sequence
        self._kept.append((message, now))
        self._bytes += len(message.body)
        self._trim(now)
        waiting, self._grown = self._grown, []
        for each in waiting:
            if not each.done():
                each.set_result(None)

    def last(self, topic: str) -> Message | None:
        """The newest message of an address, where it is still kept."""
        place = self._newest.get(topic, 0) - self._first
        held = self._kept[place] if 0 <= place < len(self._kept) else None
        return held[0] if held is not None else None

    def following(self, sequence: int, pattern: str) -> Message | None:
        """The first message behind a sequence whose address matches."""
        for place in range(max(0, sequence + 1 - self._first), len(self._kept)):
            held = self._kept[place]
            if held is not None and matches(pattern, held[0].topic):
                return held[0]
        return None

    def topics(self) -> list[str]:
        """The addresses of which something is kept, sorted."""
        return sorted(topic for topic in self._newest if self.last(topic) is not None)

    async def grown(self) -> None:
        """Returns when something has been added."""
        waiting = asyncio.get_running_loop().create_future()
        self._grown.append(waiting)
        await waiting

    def _drop(self, place: int) -> None:
        held = self._kept[place] if 0 <= place < len(self._kept) else None
        if held is not None:
            self._bytes -= len(held[0].body)
            self._kept[place] = None

    def _trim(self, now: float) -> None:
        kept, gone = self._kept, self._gone
        while gone < len(kept) - 1:
            held = kept[gone]
            old = held is None or (self._max_age and held[1] < now - self._max_age)
            if not old and not (0 < self._max_bytes < self._bytes):
                break
            self._drop(gone)
            gone += 1
        if gone > len(kept) // 2:  # not one by one: the rest moves up each time
            del kept[:gone]
            self._first += gone
            gone = 0
        self._gone = gone


_HUBS: WeakValueDictionary[str, Hub] = WeakValueDictionary()


def hub_at(url: str) -> Hub:
    """The hub of that name, one for all clients of this process while any of them lives."""
    return _HUBS.setdefault(url, Hub())
