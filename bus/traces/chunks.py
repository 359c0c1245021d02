"""A chunk of an MCAP file: unpacked within bounds, and the messages in it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from heliograph.bus.traces import layout

_RECORD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_MESSAGE = 5
_CHUNK = 6
_FIRST = struct.Struct("<QQQII")
_STEP = 1024 * 1024


class Damaged(Exception):
    """A part of a file that can not be read, and why."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where a chunk's record lies, with its head.

    Attributes:
        offset, length: of the whole record in the file.
        start, end: the log times between which its messages lie.
        size: bytes that it claims to unpack to.
        packed: bytes of what is compressed.
        cut: the file ends within it.
        bare: no chunk at all, but messages that follow each other.
        channels: those that have messages in it, where known.
    """

    offset: int
    length: int
    start: int
    end: int
    size: int
    compression: str
    packed: int = 0
    cut: bool = False
    bare: bool = False
    channels: frozenset[int] | None = None


def unpacked(file: BinaryIO, chunk: Chunk) -> bytes:
    """The records in a chunk. Raises Damaged where they can not be had, before room is made for what is too large."""
    if chunk.size > layout.MAX_CHUNK or chunk.length > layout.MAX_CHUNK:
        raise Damaged(f"a chunk claims {max(chunk.size, chunk.length)} bytes, more than {layout.MAX_CHUNK}")
    file.seek(chunk.offset)
    record = file.read(chunk.length)
    if chunk.bare:
        return record
    code, length = _RECORD.unpack_from(record)
    if code != _CHUNK or (length + _RECORD.size != chunk.length and not chunk.cut):
        raise Damaged("there is no chunk")
    _, _, size, checksum, name_length = _FIRST.unpack_from(record, _RECORD.size)
    at = _RECORD.size + _FIRST.size + name_length + 8
    if size != chunk.size or (chunk.packed != len(record) - at and not chunk.cut):
        raise Damaged("a chunk's head is damaged")
    data = _decompressed(record[at:], chunk)
    if not chunk.cut:
        if len(data) != chunk.size:
            raise Damaged(f"a chunk unpacks to {len(data)} bytes, not to {chunk.size}")
        if checksum and zlib.crc32(data) != checksum:
            raise Damaged("a chunk's checksum is not that of its bytes")
    return data


def _decompressed(packed: bytes, chunk: Chunk) -> bytes:
    """At most ``chunk.size + 1`` bytes; of one that is cut, as many as can be had."""
    if not chunk.compression:
        return packed
    if chunk.compression == "zstd":
        import zstandard

        try:
            if not chunk.cut:
                reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
                return reader.read(chunk.size + 1) if chunk.size else b""
            return _as_much_as_there_is(packed, chunk.size)
        except (zstandard.ZstdError, MemoryError):
            raise Damaged("a chunk does not unpack") from None
    if chunk.compression == "lz4":
        import lz4.frame

        try:
            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=chunk.size + 1))
        except (RuntimeError, EOFError, MemoryError):
            raise Damaged("a chunk does not unpack") from None
    raise Damaged(f"a chunk is compressed by {chunk.compression[:16]!r}, not by zstd or lz4")


def _as_much_as_there_is(packed: bytes, most: int) -> bytes:
    import zstandard

    found = bytearray()
    with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
        while len(found) < most:
            try:
                part = reader.read(min(_STEP, most - len(found)))
            except zstandard.ZstdError:
                break
            if not part:
                break
            found += part
    return bytes(found)


def records_of(data: bytes, lenient: bool = False) -> Iterator[tuple[int, int, int]]:
    """Code, place and length of each record's content. Raises Damaged where one goes beyond the end, unless
    ``lenient``."""
    at, end = 0, len(data)
    while at < end:
        if end - at < _RECORD.size:
            break
        code, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if length > end - at:
            at -= _RECORD.size
            break
        yield code, at, length
        at += length
    if at != end and not lenient:
        raise Damaged("a record goes beyond the end of what holds it")


def messages_of(data: bytes, lenient: bool = False) -> Iterator[tuple[int, int, int, int]]:
    """Channel, log time, place and length of each message's content in a chunk's records, as they lie there."""
    unpack = _MESSAGE_HEAD.unpack_from
    for code, at, length in records_of(data, lenient):
        if code == _MESSAGE:
            if length < _MESSAGE_HEAD.size:
                raise Damaged("a message is damaged")
            channel, _, time, _ = unpack(data, at)
            yield channel, time, at, length


def message_at(data: bytes, at: int, length: int) -> tuple[int, int, int, int, bytes]:
    """Channel, sequence, log time, publish time and content of the message there."""
    channel, sequence, log_time, publish_time = _MESSAGE_HEAD.unpack_from(data, at)
    return channel, sequence, log_time, publish_time, data[at + _MESSAGE_HEAD.size : at + length]
