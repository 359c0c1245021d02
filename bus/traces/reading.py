"""Reading a trace: its messages in the order of their log times, and what of a damaged file can still be had."""

from __future__ import annotations

import heapq
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from heliograph.bus.contract import topics
from heliograph.bus.traces import layout
from heliograph.bus.traces.chunks import Chunk, Damaged, message_at, messages_of, unpacked
from heliograph.bus.traces.layout import ChannelKey
from heliograph.bus.traces.mcap_index import MAGIC, Channel, read_index
from heliograph.bus.traces.recorded import Recorded
from heliograph.core.errors import Refused
from heliograph.core.names import is_digest

HELD = 256 * 1024 * 1024
"""Bytes of chunks that overlap in time and are held unpacked together, to give their messages in order."""
_ENCODINGS = ("json", "msgpack", "")


@dataclass(frozen=True)
class TraceInfo:
    """What a trace says of itself.

    Attributes:
        version: of the layout; 0 of a foreign file.
        metadata: what its writer was told: when it was recorded, from what, what was dropped.
        messages: of each (address, encoding), in the order of their first; a pattern stands for addresses that are
            each used once.
        start, end: the first and last log time, nanoseconds since 1970; 0 where there is no message.
        attachments: name and size of each.
        foreign: it was written by another program.
        whole: it has a sound index.
    """

    version: int
    root: str
    metadata: dict[str, str]
    messages: dict[tuple[str, str], int]
    start: int
    end: int
    attachments: tuple[tuple[str, int], ...]
    foreign: bool
    whole: bool

    @property
    def total(self) -> int:
        """How many messages there are, those that can not be read among them where the index tells of them."""
        return sum(self.messages.values())


@dataclass
class _Open:
    """A chunk that is being given out."""

    data: bytes
    places: Iterator[tuple[int, int, int]] = field(default_factory=lambda: iter(()))


class TraceReader:
    """Reads an MCAP file. A context manager; one iteration at a time.

    ``problems`` says what can not be read, and ``unread`` how many messages that is as far as known; both grow while
    messages and attachments are read.

    Raises Refused where the file is no MCAP file, or a trace of a newer version; OSError where it can not be opened;
    HeliographError where the MCAP library is missing.
    """

    def __init__(self, path: Path) -> None:
        layout.library()
        self.path = path
        self._file = path.open("rb")
        try:
            if self._file.read(len(MAGIC)) != MAGIC:
                raise Refused(
                    "not-a-trace", topic=str(path), expected="an MCAP file", got="another one, or one that is empty",
                    hint="'heliograph trace record' makes one, 'heliograph trace import' makes one of JSON lines.",
                )  # fmt: skip
            self._index = read_index(self._file)
            self.problems = list(self._index.problems)
            self.unread = 0
            foreign = layout.BEGUN not in self._index.metadata
            self._channels = {number: _Meaning.of(each, foreign) for number, each in self._index.channels.items()}
            self.info = self._describe()
        except BaseException:
            self._file.close()
            raise
        for number, meaning in self._channels.items():
            count = self._index.counts.get(number, 0)
            if not meaning.readable and count:
                self.unread += count
                channel = self._index.channels[number]
                self.problems.append(
                    f"channel {channel.topic}: {count} messages of encoding {channel.encoding[:32]!r}; a trace's are "
                    "json or msgpack"
                )

    def messages(self, wanted: Callable[[str], bool] | None = None, start: int = 0, end: int = layout.MAX_TIME
                 ) -> Iterator[Recorded]:  # fmt: skip
        """Messages in the order of their log times; those of one time as they lie in the file.

        Args:
            wanted: whether an address is; asked once for each.
            start, end: log times, both of them included.
        """
        chosen: dict[int, bool] = {}
        waiting: list[tuple[int, int, int, int, _Open]] = []
        held = 0
        chunks = sorted(self._index.chunks, key=lambda chunk: (chunk.start, chunk.offset))
        left = [each for each in chunks if each.start <= end and each.end >= start and self._may_hold(each, wanted)]
        left.reverse()
        while left or waiting:
            while left and (not waiting or left[-1].start <= waiting[0][0]):
                if waiting and held + left[-1].size > HELD:
                    self._overlap()
                    break
                chunk = left.pop()
                opened = self._opened(chunk)
                if opened is not None:
                    held += len(opened.data)
                    held -= _push(waiting, chunk.offset, opened)
            if not waiting:
                continue
            _, offset, at, length, opened = waiting[0]
            number, sequence, log_time, publish_time, data = message_at(opened.data, at, length)
            following = next(opened.places, None)
            if following is None:
                heapq.heappop(waiting)
                held -= len(opened.data)
            else:
                heapq.heapreplace(waiting, (following[0], offset, *following[1:], opened))
            meaning = self._channels.get(number)
            if meaning is None:
                self._undeclared(number)
            elif meaning.readable and start <= log_time <= end:
                recorded = meaning.recorded(sequence, log_time, publish_time, data)
                if recorded is None:
                    self._unwrappable(meaning)
                elif wanted is None or (
                    wanted(recorded.topic) if meaning.key.wrapped
                    else chosen.setdefault(number, chosen[number] if number in chosen else wanted(recorded.topic))
                ):  # fmt: skip
                    yield recorded

    def __iter__(self) -> Iterator[Recorded]:
        return self.messages()

    def attachments(self) -> Iterator[tuple[str, bytes]]:
        """Name and content of each attachment; what is damaged is named among the problems."""
        for each in self._index.attachments:
            if each.length > layout.MAX_ATTACHMENT:
                self.problems.append(f"attachment {each.name[:80]}: {each.length} bytes, more than this reads")
                continue
            self._file.seek(each.offset)
            record = self._file.read(each.length)
            data = record[-4 - each.size : -4]
            checksum = int.from_bytes(record[-4:], "little")
            if (len(record) < each.length or (checksum and zlib.crc32(record[9:-4]) != checksum)
                    or (is_digest(each.name) and sha256(data).hexdigest() != each.name)):  # fmt: skip
                self.problems.append(f"attachment {each.name[:80]}: damaged")
                continue
            yield each.name, data

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _describe(self) -> TraceInfo:
        begun = self._index.metadata.get(layout.BEGUN)
        metadata = {**(begun or {}), **self._index.metadata.get(layout.ENDED, {})}
        version, root = 0, topics.DEFAULT_ROOT
        if begun is not None:
            text = metadata.pop("version", "")
            version = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
            if version > layout.VERSION:
                raise Refused(
                    "newer", topic=str(self.path), field="version", expected=f"at most {layout.VERSION}", got=text,
                    hint="A newer heliograph wrote it: pip install -U heliograph, or let that one export it.",
                )  # fmt: skip
            if version == 0:
                raise Refused("invalid", topic=str(self.path), field="version", expected="a number from 1", got=text)
            root = metadata.pop("root", root)
        messages: dict[tuple[str, str], int] = {}
        for number in sorted(self._index.counts):
            meaning = self._channels.get(number)
            if meaning is not None:
                key = (meaning.key.address, meaning.key.encoding)
                messages[key] = messages.get(key, 0) + self._index.counts[number]
        chunks = self._index.chunks
        return TraceInfo(
            version, root, metadata, messages,
            min((each.start for each in chunks), default=0), max((each.end for each in chunks), default=0),
            tuple((each.name, each.size) for each in self._index.attachments), begun is None, self._index.whole,
        )  # fmt: skip

    def _may_hold(self, chunk: Chunk, wanted: Callable[[str], bool] | None) -> bool:
        if wanted is None or chunk.channels is None:
            return True
        meanings = [self._channels.get(number) for number in chunk.channels]
        return any(each is None or each.key.wrapped or wanted(each.key.address) for each in meanings)

    def _opened(self, chunk: Chunk) -> _Open | None:
        try:
            data = unpacked(self._file, chunk)
            return _Open(data, _in_order(data, chunk.cut))
        except Damaged as error:
            self.problems.append(f"bytes {chunk.offset} to {chunk.offset + chunk.length}: {error}")
        except (ValueError, struct.error):
            self.problems.append(f"bytes {chunk.offset} to {chunk.offset + chunk.length}: a chunk is damaged")
        return None

    def _overlap(self) -> None:
        line = f"chunks overlap in time by more than {HELD} bytes: not all messages are in order"
        if line not in self.problems:
            self.problems.append(line)

    def _undeclared(self, number: int) -> None:
        self.unread += 1
        line = f"channel {number}: messages, but nothing says what it is"
        if line not in self.problems:
            self.problems.append(line)

    def _unwrappable(self, meaning: _Meaning) -> None:
        self.unread += 1
        line = f"channel {meaning.key.address}: messages that are not wrapped as it says"
        if line not in self.problems:
            self.problems.append(line)


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a channel says of each of its messages."""

    key: ChannelKey
    readable: bool
    headers: dict[str, str] | None
    """Of each of its messages, where they are the same."""

    @staticmethod
    def of(channel: Channel, foreign: bool) -> _Meaning:
        metadata, topic = channel.metadata, channel.topic
        if foreign:  # as brokers and robots write them
            metadata, topic = {}, topic.lstrip("/").removeprefix(f"{topics.DEFAULT_ROOT}/")
        try:
            key = ChannelKey.of(topic, channel.encoding, metadata)
            readable = channel.encoding in _ENCODINGS and topic != ""
        except ValueError:
            key, readable = ChannelKey(topic, channel.encoding), False
        return _Meaning(key, readable, key.headers(0) if key.high is None else None)

    def recorded(self, sequence: int, log_time: int, publish_time: int, data: bytes) -> Recorded | None:
        key = self.key
        if not key.wrapped:
            headers = self.headers if self.headers is not None else key.headers(sequence)
            return Recorded(key.address, data, log_time, publish_time, headers, key.retained)
        try:
            carried, body = layout.unwrap(data, key.encoding)
        except (ValueError, RecursionError):
            return None
        return Recorded(
            carried["address"], body, log_time, publish_time, carried.get("headers", {}),
            carried.get("retained") is True,
        )  # fmt: skip


def _in_order(data: bytes, cut: bool) -> Iterator[tuple[int, int, int]]:
    """Log time, place and length of each message of a chunk, in the order of their times. Raises Damaged."""
    times, places, lengths = array("Q"), array("Q"), array("Q")
    ordered, before = True, 0
    for _, time, at, length in messages_of(data, cut):
        times.append(time)
        places.append(at)
        lengths.append(length)
        ordered = ordered and time >= before
        before = time
    if ordered:
        return zip(times, places, lengths, strict=True)
    order = sorted(range(len(times)), key=times.__getitem__)
    return ((times[each], places[each], lengths[each]) for each in order)


def _push(waiting: list[tuple[int, int, int, int, _Open]], offset: int, opened: _Open) -> int:
    """Puts a chunk's first message among those that wait; returns the bytes that are free again, of an empty one."""
    first = next(opened.places, None)
    if first is None:
        return len(opened.data)
    heapq.heappush(waiting, (first[0], offset, first[1], first[2], opened))
    return 0
