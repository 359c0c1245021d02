"""Reading a trace: its messages in the order of their log times, as far as a damaged file allows."""

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
from heliograph.bus.contract.former_names import present_address
from heliograph.bus.traces import layout
from heliograph.bus.traces.chunks import Chunk, Damaged, message_at, messages_of, unpacked
from heliograph.bus.traces.layout import ChannelKey
from heliograph.bus.traces.mcap_index import MAGIC, Channel, read_index
from heliograph.bus.traces.recorded import Recorded
from heliograph.core.errors import Refused
from heliograph.core.names import is_digest

MAX_OPEN_BYTES = 256 * 1024 * 1024
"""Largest total size of the decompressed chunks that overlap in time and are merged in order, in bytes."""
_ENCODINGS = ("json", "msgpack", "")


@dataclass(frozen=True)
class TraceInfo:
    """A trace's description.

    Attributes:
        version: version of the layout; 0 for a foreign file.
        root: first words of every topic.
        metadata: the writer's metadata: time and source of the recording, dropped messages.
        messages: number of messages by (address, encoding), in the order of the first ones; a pattern stands for
            addresses used once.
        start, end: first and last log time in nanoseconds since 1970; 0 without messages.
        attachments: name and size of each attachment.
        foreign: True if another program wrote the file.
        whole: True if its index is intact.
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
        """Number of messages, including unreadable ones that the index names."""
        return sum(self.messages.values())


@dataclass
class _OpenChunk:
    """A decompressed chunk whose messages are being read."""

    data: bytes
    places: Iterator[tuple[int, int, int]] = field(default_factory=lambda: iter(()))


class TraceReader:
    """A reader of an MCAP file; a context manager. Only one iteration may run at a time.

    ``problems`` names the unreadable parts, and ``unread`` counts their messages as far as known; both grow while
    messages and attachments are read.

    Raises:
        Refused: if the file is no MCAP file, a trace of a newer version, or unpacks to far more than its size.
        OSError: if the file cannot be opened.
        HeliographError: if the MCAP library is missing.
    """

    def __init__(self, path: Path) -> None:
        layout.require_library()
        self.path = path
        self._file = path.open("rb")
        try:
            if self._file.read(len(MAGIC)) != MAGIC:
                raise Refused(
                    "not-a-trace", topic=str(path), expected="an MCAP file", got="an empty file or another format",
                    hint="Make one with 'heliograph trace record', or from JSON lines with 'heliograph trace import'.",
                )  # fmt: skip
            self._index = read_index(self._file, str(path))
            self.problems = list(self._index.problems)
            self.unread = 0
            foreign = layout.START_METADATA not in self._index.metadata
            former = self._index.metadata.get(layout.START_METADATA, {}).get("version", "1") == "1"
            self._channels = {
                number: _ChannelReader.of(each, foreign, former) for number, each in self._index.channels.items()
            }
            self.info = self._describe()
        except BaseException:
            self._file.close()
            raise
        for number, reader in self._channels.items():
            count = self._index.counts.get(number, 0)
            if not reader.readable and count:
                self.unread += count
                channel = self._index.channels[number]
                self.problems.append(
                    f"channel {channel.topic}: {count} messages of encoding {channel.encoding[:32]!r}; a trace has "
                    "json and msgpack"
                )

    def messages(self, wanted: Callable[[str], bool] | None = None, start: int = 0, end: int = layout.MAX_TIME
                 ) -> Iterator[Recorded]:  # fmt: skip
        """Yield messages in the order of their log times; messages of the same time in the file's order.

        Args:
            wanted: function from an address to whether to yield its messages; called once for each address.
            start, end: first and last log time.
        """
        chosen: dict[int, bool] = {}
        waiting: list[tuple[int, int, int, int, _OpenChunk]] = []
        open_bytes = 0
        chunks = sorted(self._index.chunks, key=lambda chunk: (chunk.start, chunk.offset))
        left = [each for each in chunks if each.start <= end and each.end >= start and self._may_hold(each, wanted)]
        left.reverse()
        while left or waiting:
            while left and (not waiting or left[-1].start <= waiting[0][0]):
                if waiting and open_bytes + left[-1].size > MAX_OPEN_BYTES:
                    self._overlap()
                    break
                chunk = left.pop()
                opened = self._opened(chunk)
                if opened is not None:
                    open_bytes += len(opened.data)
                    open_bytes -= _push(waiting, chunk.offset, opened)
            if not waiting:
                continue
            _, offset, at, length, opened = waiting[0]
            number, sequence, log_time, publish_time, data = message_at(opened.data, at, length)
            following = next(opened.places, None)
            if following is None:
                heapq.heappop(waiting)
                open_bytes -= len(opened.data)
            else:
                heapq.heapreplace(waiting, (following[0], offset, *following[1:], opened))
            reader = self._channels.get(number)
            if reader is None:
                self._undeclared(number)
            elif reader.readable and start <= log_time <= end:
                recorded = reader.recorded(sequence, log_time, publish_time, data)
                if recorded is None:
                    self._unwrappable(reader)
                elif wanted is None or (
                    wanted(recorded.topic) if reader.key.wrapped
                    else chosen.setdefault(number, chosen[number] if number in chosen else wanted(recorded.topic))
                ):  # fmt: skip
                    yield recorded

    def __iter__(self) -> Iterator[Recorded]:
        return self.messages()

    def attachments(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of each attachment; skip damaged ones and add them to ``problems``."""
        for each in self._index.attachments:
            if each.length > layout.MAX_ATTACHMENT:
                self.problems.append(f"attachment {each.name[:80]}: {each.length} bytes, too large to read")
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
        start = self._index.metadata.get(layout.START_METADATA)
        metadata = {**(start or {}), **self._index.metadata.get(layout.END_METADATA, {})}
        version, root = 0, topics.DEFAULT_ROOT
        if start is not None:
            text = metadata.pop("version", "")
            version = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
            if version > layout.VERSION:
                raise Refused(
                    "newer", topic=str(self.path), field="version", expected=f"at most {layout.VERSION}", got=text,
                    hint="A newer heliograph wrote it: pip install -U heliograph, or export it with the newer one.",
                )  # fmt: skip
            if version == 0:
                raise Refused("invalid", topic=str(self.path), field="version", expected="a number from 1", got=text)
            root = metadata.pop("root", root)
        messages: dict[tuple[str, str], int] = {}
        for number in sorted(self._index.counts):
            reader = self._channels.get(number)
            if reader is not None:
                key = (reader.key.address, reader.key.encoding)
                messages[key] = messages.get(key, 0) + self._index.counts[number]
        chunks = self._index.chunks
        return TraceInfo(
            version, root, metadata, messages,
            min((each.start for each in chunks), default=0), max((each.end for each in chunks), default=0),
            tuple((each.name, each.size) for each in self._index.attachments), start is None, self._index.whole,
        )  # fmt: skip

    def _may_hold(self, chunk: Chunk, wanted: Callable[[str], bool] | None) -> bool:
        if wanted is None or chunk.channels is None:
            return True
        readers = [self._channels.get(number) for number in chunk.channels]
        return any(each is None or each.key.wrapped or wanted(each.key.address) for each in readers)

    def _opened(self, chunk: Chunk) -> _OpenChunk | None:
        try:
            data = unpacked(self._file, chunk)
            return _OpenChunk(data, _in_order(data, chunk.cut))
        except Damaged as error:
            self.problems.append(f"bytes {chunk.offset} to {chunk.offset + chunk.length}: {error}")
        except (ValueError, struct.error):
            self.problems.append(f"bytes {chunk.offset} to {chunk.offset + chunk.length}: a chunk is damaged")
        return None

    def _overlap(self) -> None:
        line = f"chunks overlap in time by more than {MAX_OPEN_BYTES} bytes: not all messages are in order"
        if line not in self.problems:
            self.problems.append(line)

    def _undeclared(self, number: int) -> None:
        self.unread += 1
        line = f"channel {number}: it has messages but is not declared"
        if line not in self.problems:
            self.problems.append(line)

    def _unwrappable(self, reader: _ChannelReader) -> None:
        self.unread += 1
        line = f"channel {reader.key.address}: it declares wrapped messages, but some are not wrapped"
        if line not in self.problems:
            self.problems.append(line)


@dataclass(frozen=True, slots=True)
class _ChannelReader:
    """A channel's properties, from which its messages are restored."""

    key: ChannelKey
    readable: bool
    headers: dict[str, str] | None
    """Headers of every message; None if they differ."""
    former: bool
    """Whether topics may have the names before 0.2."""

    @staticmethod
    def of(channel: Channel, foreign: bool, former: bool) -> _ChannelReader:
        metadata, topic = channel.metadata, channel.topic
        if foreign:  # brokers and robots write a leading slash or our root
            metadata, topic = {}, topic.lstrip("/").removeprefix(f"{topics.DEFAULT_ROOT}/")
        topic = present_address(topic) if former else topic
        try:
            key = ChannelKey.of(topic, channel.encoding, metadata)
            readable = channel.encoding in _ENCODINGS and topic != ""
        except ValueError:
            key, readable = ChannelKey(topic, channel.encoding), False
        return _ChannelReader(key, readable, key.headers(0) if key.high is None else None, former)

    def recorded(self, sequence: int, log_time: int, publish_time: int, data: bytes) -> Recorded | None:
        key = self.key
        if not key.wrapped:
            headers = self.headers if self.headers is not None else key.headers(sequence)
            return Recorded(key.address, data, log_time, publish_time, headers, key.retained)
        try:
            carried, body = layout.unwrap(data, key.encoding)
        except (ValueError, RecursionError):
            return None
        address = present_address(carried["address"]) if self.former else carried["address"]
        return Recorded(
            address, body, log_time, publish_time, carried.get("headers", {}),
            carried.get("retained") is True,
        )  # fmt: skip


def _in_order(data: bytes, cut: bool) -> Iterator[tuple[int, int, int]]:
    """Return log time, place and length of each message of a chunk, by log time. Raise Damaged if unreadable."""
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


def _push(waiting: list[tuple[int, int, int, int, _OpenChunk]], offset: int, opened: _OpenChunk) -> int:
    """Push a chunk's first message onto the heap; return the bytes that an empty chunk frees."""
    first = next(opened.places, None)
    if first is None:
        return len(opened.data)
    heapq.heappush(waiting, (first[0], offset, first[1], first[2], opened))
    return 0
