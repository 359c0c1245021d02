"""The index of an MCAP file: read from its summary, or by a scan from the start if the summary is missing or damaged.

Every size that a file claims is bounded before memory is allocated.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, BinaryIO

from heliograph.bus.traces import layout
from heliograph.bus.traces.chunks import Chunk, Damaged, messages_of, records_of, unpacked
from heliograph.core.errors import Refused

MAGIC = bytes((137, 77, 67, 65, 80, 48, 13, 10))
_RECORD = struct.Struct("<BQ")
_FOOTER = struct.Struct("<QQI")
_CHUNK_HEAD = struct.Struct("<QQQII")
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _CHUNK_INDEX, _ATTACHMENT, _ATTACHMENT_INDEX = 3, 4, 5, 6, 8, 9, 10
_HEADER, _FOOTER_CODE, _STATISTICS, _METADATA, _METADATA_INDEX, _DATA_END = 1, 2, 11, 12, 13, 15
_TAIL = _RECORD.size + _FOOTER.size + len(MAGIC)
_RUN = 1024 * 1024
"""Largest run of messages outside chunks that is read at once, in bytes."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as the file declares it."""

    topic: str
    encoding: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Attached:
    """The place of an attachment's record in a file, and the size of its content in bytes."""

    name: str
    offset: int
    length: int
    size: int


@dataclass
class FileIndex:
    """The content of a file.

    Attributes:
        channels: the channels by number.
        counts: number of messages of each channel.
        chunks: the chunks in the file's order.
        whole: True if the file has an intact summary.
        problems: sentences about unreadable parts.
        unpacked: bytes that the chunks claim to unpack to.
    """

    size: int
    channels: dict[int, Channel] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    attachments: list[Attached] = field(default_factory=list)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    whole: bool = True
    unpacked: int = 0
    problems: list[str] = field(default_factory=list)


def read_index(file: BinaryIO, name: str) -> FileIndex:
    """Read the index of an MCAP file, whatever the file's position; the position changes.

    Raise Refused, naming the file, if its chunks unpack to more than ``layout.UNPACKED_FREE`` allows; nothing beyond
    that is unpacked.
    """
    size = file.seek(0, 2)
    try:
        found = _from_summary(file, size)
        _check_unpacked(found, name)
    except (Damaged, *_UNREADABLE) as error:
        reason = str(error) if isinstance(error, Damaged) else "its index is damaged"
        found = _from_start(file, size, name)
        found.whole = False
        found.problems.insert(0, f"{reason}; it was read from its start")
    return found


_UNREADABLE = (struct.error, UnicodeDecodeError, ValueError, EOFError, KeyError, OverflowError)


def _from_summary(file: BinaryIO, size: int) -> FileIndex:
    if size < 2 * len(MAGIC) + _TAIL:
        raise Damaged("it has no end")
    file.seek(size - _TAIL)
    tail = file.read(_TAIL)
    code, length = _RECORD.unpack_from(tail)
    if not tail.endswith(MAGIC) or (code, length) != (_FOOTER_CODE, _FOOTER.size):
        raise Damaged("it has no end")
    start, _, checksum = _FOOTER.unpack_from(tail, _RECORD.size)
    end = size - _TAIL
    if not start:
        raise Damaged("it has no index")
    if not len(MAGIC) <= start <= end or end - start > layout.MAX_SUMMARY:
        raise Damaged("its index is damaged")
    file.seek(start)
    summary = file.read(end - start)
    if checksum and zlib.crc32(tail[: _RECORD.size + 16], zlib.crc32(summary)) != checksum:
        raise Damaged("its index is damaged")
    found = FileIndex(size)
    described = False
    parts: list[tuple[int, int]] = []
    for code, at, length in records_of(summary):
        part = summary[at : at + length]
        if code == _CHANNEL:
            _add_channel(found, part)
        elif code == _CHUNK_INDEX:
            found.chunks.append(_chunk_of_index(part, start))
        elif code == _STATISTICS:
            described = True
            found.counts = dict(_parsed("Statistics", part).channel_message_counts)
        elif code == _ATTACHMENT_INDEX:
            each = _parsed("AttachmentIndex", part)
            found.attachments.append(_bounded(Attached(each.name, each.offset, each.length, each.data_size), start))
        elif code == _METADATA_INDEX:
            each = _parsed("MetadataIndex", part)
            parts.append((each.offset, each.length))
    if not described or set(found.counts) - set(found.channels) or (sum(found.counts.values()) and not found.chunks):
        raise Damaged("its index is incomplete")
    for offset, length in parts:
        if not 0 < length <= layout.MAX_RECORD or offset + length > start:
            raise Damaged("its index is damaged")
        file.seek(offset)
        record = file.read(length)
        if _RECORD.unpack_from(record) != (_METADATA, length - _RECORD.size):
            raise Damaged("its index is damaged")
        _add_metadata(found, record[_RECORD.size :])
    found.chunks.sort(key=lambda chunk: chunk.offset)
    chunks = [(each.offset, each.length) for each in found.chunks]
    _check_apart([*parts, *chunks, *((each.offset, each.length) for each in found.attachments)])
    found.unpacked = sum(map(_unpacked_size, found.chunks))
    return found


def _check_apart(places: list[tuple[int, int]]) -> None:
    """Raise Damaged where two entries of the index name the same bytes: each would be read, and unpacked, once more."""
    end = 0
    for offset, length in sorted(places):
        if offset < end:
            raise Damaged("its index names bytes twice")
        end = offset + length


def _check_unpacked(found: FileIndex, name: str) -> None:
    most = layout.UNPACKED_FREE + layout.UNPACKED_TIMES * found.size
    if found.unpacked > most:
        raise Refused(
            "too-large", topic=name, expected=f"chunks that unpack to at most {most} bytes, for a file of {found.size}",
            got=f"{found.unpacked} bytes or more", hint="If you trust it, unpack it first: 'mcap decompress'.",
        )  # fmt: skip


def _unpacked_size(chunk: Chunk) -> int:
    """Return the bytes that a chunk claims to unpack to; 0 for a chunk that is never unpacked."""
    return chunk.size if chunk.compression and chunk.size <= layout.MAX_CHUNK else 0


def _bounded(attached: Attached, end: int) -> Attached:
    if attached.length < attached.size or attached.offset + attached.length > end:
        raise Damaged("its index is damaged")
    return attached


def _chunk_of_index(part: bytes, end: int) -> Chunk:
    each = _parsed("ChunkIndex", part)
    head = _RECORD.size + _CHUNK_HEAD.size + len(each.compression.encode()) + 8
    if each.chunk_start_offset + each.chunk_length > end or each.chunk_length != head + each.compressed_size:
        raise Damaged("its index is damaged")
    return Chunk(
        each.chunk_start_offset, each.chunk_length, each.message_start_time, each.message_end_time,
        each.uncompressed_size, each.compression, packed=each.compressed_size,
        channels=frozenset(each.message_index_offsets) or None,
    )  # fmt: skip


def _from_start(file: BinaryIO, size: int, name: str) -> FileIndex:
    """Scan every record; decompress each chunk for its channels and messages, and name damaged chunks."""
    found = FileIndex(size)
    for code, offset, length in _file_records(file, size, found):
        end = offset + length
        if code == _CHUNK:
            _scan_chunk(file, found, offset, length, name)
        elif code == _MESSAGE:
            _scan_message(file, found, offset, length)
        elif code in (_SCHEMA, _CHANNEL, _METADATA):
            if length > layout.MAX_RECORD or end > size:
                found.problems.append(_problem(offset, min(end, size), "a record is damaged or cut"))
                continue
            file.seek(offset + _RECORD.size)
            part = file.read(length - _RECORD.size)
            try:
                if code == _CHANNEL:
                    _add_channel(found, part)
                elif code == _METADATA:
                    _add_metadata(found, part)
            except _UNREADABLE:
                found.problems.append(_problem(offset, end, "a record is damaged"))
        elif code == _ATTACHMENT:
            _scan_attachment(file, found, offset, length)
    return found


def _file_records(file: BinaryIO, size: int, found: FileIndex) -> Iterator[tuple[int, int, int]]:
    """Yield code, offset and whole length of each record up to the end of the data; the last one may be cut."""
    offset = len(MAGIC)
    while offset < size:
        file.seek(offset)
        head = file.read(_RECORD.size)
        if len(head) < _RECORD.size:
            found.problems.append(_problem(offset, size, "the file ends within a record"))
            return
        code, length = _RECORD.unpack(head)
        whole = length + _RECORD.size
        if code == 0:
            found.problems.append(_problem(offset, size, "no record was found"))
            return
        if code in (_DATA_END, _FOOTER_CODE):
            return
        yield code, offset, whole
        if offset + whole > size and code != _CHUNK:
            if code not in (_SCHEMA, _CHANNEL, _METADATA, _ATTACHMENT):
                found.problems.append(_problem(offset, size, "the file ends within a record"))
            return
        offset += whole


def _scan_chunk(file: BinaryIO, found: FileIndex, offset: int, length: int, name: str) -> None:
    cut = offset + length > found.size
    file.seek(offset + _RECORD.size)
    head = file.read(_CHUNK_HEAD.size)
    end = min(offset + length, found.size)
    if len(head) < _CHUNK_HEAD.size:
        found.problems.append(_problem(offset, end, "the file ends within a chunk"))
        return
    start_time, end_time, unpacked_size, _, name_length = _CHUNK_HEAD.unpack(head)
    compression = file.read(min(name_length, 16)).decode("latin-1")
    (packed,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
    chunk = Chunk(offset, end - offset, start_time, end_time, unpacked_size, compression, packed=packed, cut=cut)
    found.unpacked += _unpacked_size(chunk)
    _check_unpacked(found, name)
    try:
        data = unpacked(file, chunk)
        times: list[int] = []
        for code, at, each in records_of(data, lenient=cut):
            if code == _CHANNEL:
                _add_channel(found, data[at : at + each])
        for channel, time, _, _ in messages_of(data, lenient=cut):
            found.counts[channel] = found.counts.get(channel, 0) + 1
            times = [min(times[0], time), max(times[1], time)] if times else [time, time]
    except (Damaged, *_UNREADABLE) as error:
        found.problems.append(_problem(offset, end, str(error) if isinstance(error, Damaged) else "a chunk is damaged"))
        return
    if cut:
        found.problems.append(_problem(offset, end, "the file ends within a chunk; its first part was read"))
    if times:
        found.chunks.append(Chunk(offset, end - offset, times[0], times[1], unpacked_size, compression, packed, cut))


def _scan_message(file: BinaryIO, found: FileIndex, offset: int, length: int) -> None:
    """Index a message outside chunks; consecutive ones are combined into a bare chunk."""
    if length > layout.MAX_CHUNK or offset + length > found.size or length < _RECORD.size + 22:
        if offset + length <= found.size:
            found.problems.append(_problem(offset, offset + length, "a message is damaged or too large"))
        return
    file.seek(offset + _RECORD.size)
    channel, _, time = struct.unpack("<HIQ", file.read(14))
    found.counts[channel] = found.counts.get(channel, 0) + 1
    last = found.chunks[-1] if found.chunks else None
    if last is not None and last.bare and last.offset + last.length == offset and last.length < _RUN:
        found.chunks[-1] = Chunk(
            last.offset, last.length + length, min(last.start, time), max(last.end, time), last.size + length, "",
            bare=True,
        )  # fmt: skip
    else:
        found.chunks.append(Chunk(offset, length, time, time, length, "", bare=True))


def _scan_attachment(file: BinaryIO, found: FileIndex, offset: int, length: int) -> None:
    end = offset + length
    if end > found.size:
        found.problems.append(_problem(offset, found.size, "the file ends within an attachment"))
        return
    file.seek(offset + _RECORD.size + 16)
    try:
        (name_length,) = struct.unpack("<I", file.read(4))
        if name_length > 4096:
            raise ValueError
        name = file.read(name_length).decode()
        (type_length,) = struct.unpack("<I", file.read(4))
        if type_length > 4096:
            raise ValueError
        file.read(type_length)
        (size,) = struct.unpack("<Q", file.read(8))
        if size > length:
            raise ValueError
    except _UNREADABLE:
        found.problems.append(_problem(offset, end, "an attachment is damaged"))
        return
    found.attachments.append(Attached(name, offset, length, size))


def _parsed(name: str, part: bytes) -> Any:
    """Parse a record by the library's own reader. Raise ValueError if it is damaged."""
    from mcap import data_stream, exceptions, records

    try:
        read: Callable[..., Any] = getattr(records, name).read
        return read(data_stream.ReadDataStream(BytesIO(part)))
    except exceptions.McapError as error:
        raise ValueError(str(error)) from None


def _add_channel(found: FileIndex, part: bytes) -> None:
    each = _parsed("Channel", part)
    found.channels[each.id] = Channel(each.topic, each.message_encoding, each.metadata)


def _add_metadata(found: FileIndex, part: bytes) -> None:
    each = _parsed("Metadata", part)
    found.metadata.setdefault(each.name, {}).update(each.metadata)


def _problem(start: int, end: int, why: str) -> str:
    return f"bytes {start} to {end}: {why}"
