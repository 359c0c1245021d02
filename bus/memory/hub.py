"""A broker in memory: subscribers, streams, buckets and blobs, with the rules of JetStream that Heliograph relies on.

A stream numbers its messages, keeps only the last of each address if declared so, drops a message with the id of one of
the last two minutes, and stores a batch whole or not at all.
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
"""Seconds for which a stream remembers a message id; JetStream's default."""
Receive = Callable[[Message], None]


class Hub:
    """One broker.

    Args:
        clock: returns seconds, for the ages of messages and message ids.
        most_bytes: size limit of each stream, beyond which it drops its oldest messages; 0 for the declared limit.
        keeps_streams: False for a node's broker, which stores no events.
    """

    def __init__(
        self, clock: Callable[[], float] | None = None, most_bytes: int = 0, keeps_streams: bool = True
    ) -> None:
        self.clock = clock or (lambda: asyncio.get_running_loop().time())
        self.most_bytes = most_bytes
        self._keeps_streams = keeps_streams
        self.receivers = Receivers()
        self.taps: list[Receive] = []
        """Called with each message before its subscribers; they do not count as clients."""
        self.streams: dict[str, KeptStream] = {}
        self.acknowledged: dict[str, set[int]] = {}
        self.delivered: dict[str, set[int]] = {}
        self._retained: dict[str, dict[str, Message]] = {}
        """Retained messages by the first word of their address, then by their address."""
        self.buckets: dict[str, dict[str, KeyValueEntry]] = {}
        self.revisions: dict[str, int] = {}
        self.watchers: dict[str, list[asyncio.Event]] = {}
        """Events to set at a write, by bucket and key."""
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.blob_times: dict[str, dict[str, tuple[int, float]]] = {}
        """By bucket and digest, how often a blob was stored, and when last, in seconds since 1970."""
        self.clients: dict[str, int] = {}
        """Number of connections by client name."""
        self.on_clients: list[Callable[[str, bool], None]] = []
        """Called with a client name and True at its first connection, False at the end of its last one."""
        self._turns: dict[str, int] = {}

    def publish(self, topic: str, message: Message) -> int:
        """Store and deliver a message; return its sequence in its stream, 0 outside streams. Raises Conflict if its
        headers expect another last message of its address."""
        declared = None if topic.startswith("_INBOX") else registry.lookup(topic)[0]
        kept = declared.stream if declared is not None and self._keeps_streams else None
        if kept is not None and kept.sure:  # lines of logs are not kept: those of ten thousand edges need the memory
            stream = self.stream(kept)
            if known := stream.known(message, self.clock()):
                return known
            stream.append(message, self.clock())
        self.deliver(topic, message)
        return message.sequence

    def publish_all(self, messages: Sequence[Message]) -> None:
        """Publish all messages of one stream or none. Raises Conflict if the stream already has some of them."""
        for message in messages:
            declared, _ = registry.find(message.topic)
            if declared.stream is not None and self.stream(declared.stream).known(message, self.clock()):
                raise Conflict(f"{message.topic}: the stream has some of these events")
        for message in messages:
            self.publish(message.topic, message)

    def repeat(self, declared: Stream, message: Message) -> None:
        """Store and deliver a stream's message again, like a broker that has forgotten its id."""
        again = Message(message.topic, message.body, headers=message.headers)
        self.stream(declared).append(again, self.clock())
        self.deliver(again.topic, again)

    def deliver(self, topic: str, message: Message) -> None:
        """Deliver a message to one member of each queue, and to every subscriber without a queue."""
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
        """Keep an address's last value for later subscribers; None removes it."""
        kept = self._retained.setdefault(topic.partition("/")[0], {})
        kept.pop(topic, None)
        if message is not None:
            kept[topic] = message

    def retained(self, *patterns: str) -> list[Message]:
        """Return the retained messages whose address matches one of the patterns."""
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
        """Count a new connection of a client."""
        self.clients[client] = self.clients.get(client, 0) + 1
        if self.clients[client] == 1:
            for listener in list(self.on_clients):
                listener(client, True)

    def left(self, client: str) -> None:
        """Count the end of a client's connection."""
        self.clients[client] -= 1
        if not self.clients[client]:
            del self.clients[client]
            for listener in list(self.on_clients):
                listener(client, False)


class Receivers:
    """The subscriptions, indexed by the words before a pattern's first wildcard: few are compared with a message."""

    def __init__(self) -> None:
        self._under: dict[str, list[_Receiver]] = {}
        self._order = 0

    def add(self, pattern: str, queue: str, receive: Receive) -> Callable[[], None]:
        """Add a subscription; return a function that removes it."""
        self._order += 1
        entry = (self._order, pattern, queue, receive)
        self._under.setdefault(_head(pattern), []).append(entry)
        return partial(self._remove, entry)

    def of(self, topic: str) -> list[tuple[str, Receive]]:
        """Return queue and receiver of each matching subscription, in the order in which they were added."""
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
"""Number, pattern, queue and receiver of a subscription."""
_ORDER = itemgetter(0)


def _head(pattern: str) -> str:
    return "/".join(takewhile(lambda word: word not in ("+", "#"), pattern.split("/")))


class KeptStream:
    """A stream's messages in order, with the position of each address's newest one."""

    def __init__(self, declared: Stream, max_bytes: int) -> None:
        self._last_value = declared.last_value
        self._max_age = declared.max_age
        self._max_bytes = max_bytes
        self._kept: list[tuple[Message, float] | None] = []
        self._first = 1
        """Sequence of the first entry in ``_kept``."""
        self._gone = 0
        """Number of leading entries whose messages were dropped."""
        self._bytes = 0
        self._newest: dict[str, int] = {}
        self._ids: dict[str, tuple[int, float]] = {}
        self.last_sequence = 0
        self._grown: list[asyncio.Future[None]] = []

    def known(self, message: Message, now: float) -> int:
        """Return the sequence of the message with the same id, or 0.

        Raises Conflict if the message expects another last message of its address.
        """
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
        """Return the newest message of an address, or None if it is no longer kept."""
        place = self._newest.get(topic, 0) - self._first
        entry = self._kept[place] if 0 <= place < len(self._kept) else None
        return entry[0] if entry is not None else None

    def forget(self, topic: str) -> None:
        """Drop every message of an address."""
        self._newest.pop(topic, None)
        for place, entry in enumerate(self._kept):
            if entry is not None and entry[0].topic == topic:
                self._drop(place)

    def following(self, sequence: int, pattern: str) -> Message | None:
        """Return the first message after a sequence whose address matches."""
        for place in range(max(0, sequence + 1 - self._first), len(self._kept)):
            entry = self._kept[place]
            if entry is not None and matches(pattern, entry[0].topic):
                return entry[0]
        return None

    def topics(self) -> list[str]:
        """Return the addresses whose newest message is kept, sorted."""
        return sorted(topic for topic in self._newest if self.last(topic) is not None)

    def at(self, sequence: int) -> Message | None:
        """Return the message of a sequence, or None if it is no longer kept."""
        place = sequence - self._first
        entry = self._kept[place] if 0 <= place < len(self._kept) else None
        return entry[0] if entry is not None else None

    def newest(self, pattern: str) -> int:
        """Return the sequence of the newest message that is kept of a pattern; 0 where there is none."""
        return max((self._newest[topic] for topic in self.topics() if matches(pattern, topic)), default=0)

    async def grown(self) -> None:
        """Wait until a message is added."""
        waiting = asyncio.get_running_loop().create_future()
        self._grown.append(waiting)
        await waiting

    def _drop(self, place: int) -> None:
        entry = self._kept[place] if 0 <= place < len(self._kept) else None
        if entry is not None:
            self._bytes -= len(entry[0].body)
            self._kept[place] = None

    def _trim(self, now: float) -> None:
        kept, gone = self._kept, self._gone
        while gone < len(kept) - 1:
            entry = kept[gone]
            old = entry is None or (self._max_age and entry[1] < now - self._max_age)
            if not old and not (0 < self._max_bytes < self._bytes):
                break
            self._drop(gone)
            gone += 1
        if gone > len(kept) // 2:  # in batches: deleting moves all later entries
            del kept[:gone]
            self._first += gone
            gone = 0
        self._gone = gone


_HUBS: WeakValueDictionary[str, Hub] = WeakValueDictionary()


def hub_at(url: str) -> Hub:
    """Return the hub of that name; all clients of this process share it while any of them lives."""
    return _HUBS.setdefault(url, Hub())
