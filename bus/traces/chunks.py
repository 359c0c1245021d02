"""A chunk of an MCAP file, decompressed within bounds, and the messages in it."""

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
    """A part of a file cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The place of a chunk's record in a file, with its head.

    Attributes:
        offset, length: offset and length of the whole record in the file.
        start, end: first and last log time of its messages.
        size: claimed number of uncompressed bytes.
        packed: number of compressed bytes.
        cut: True if the file ends within the chunk.
        bare: True for consecutive messages outside chunks.
        channels: channels with messages in it; None if unknown.
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
    """Return the records in a chunk. Raise Damaged if it is unreadable, or too large, before memory is allocated."""
    if chunk.size > layout.MAX_CHUNK or chunk.length > layout.MAX_CHUNK:
        raise Damaged(f"a chunk claims {max(chunk.size, chunk.length)} bytes, more than {layout.MAX_CHUNK}")
    file.seek(chunk.offset)
    record = file.read(chunk.length)
    if chunk.bare:
        return record
    code, length = _RECORD.unpack_from(record)
    if code != _CHUNK or (length + _RECORD.size != chunk.length and not chunk.cut):
        raise Damaged("no chunk was found")
    _, _, size, checksum, name_length = _FIRST.unpack_from(record, _RECORD.size)
    at = _RECORD.size + _FIRST.size + name_length + 8
    if size != chunk.size or (chunk.packed != len(record) - at and not chunk.cut):
        raise Damaged("a chunk's head is damaged")
    data = _decompressed(record[at:], chunk)
    if not chunk.cut:
        if len(data) != chunk.size:
            raise Damaged(f"a chunk unpacks to {len(data)} bytes, not to {chunk.size}")
        if checksum and zlib.crc32(data) != checksum:
            raise Damaged("a chunk's checksum does not match its bytes")
    return data


def _decompressed(packed: bytes, chunk: Chunk) -> bytes:
    """Decompress at most ``chunk.size + 1`` bytes; of a chunk that is cut, as many as possible."""
    if not chunk.compression:
        return packed
    if chunk.compression == "zstd":
        import zstandard

        try:
            if not chunk.cut:
                reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
                return reader.read(chunk.size + 1) if chunk.size else b""
            return _decompress_cut(packed, chunk.size)
        except (zstandard.ZstdError, MemoryError):
            raise Damaged("a chunk does not unpack") from None
    if chunk.compression == "lz4":
        import lz4.frame

        try:
            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=chunk.size + 1))
        except (RuntimeError, EOFError, MemoryError):
            raise Damaged("a chunk does not unpack") from None
    raise Damaged(f"a chunk is compressed by {chunk.compression[:16]!r}, not by zstd or lz4")


def _decompress_cut(packed: bytes, most: int) -> bytes:
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
    """Yield code, place and length of each record's content. Raise Damaged if one exceeds the data, unless
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
        raise Damaged("a record exceeds the bytes around it")


def messages_of(data: bytes, lenient: bool = False) -> Iterator[tuple[int, int, int, int]]:
    """Yield channel, log time, place and length of each message in a chunk's records, in the file's order."""
    unpack = _MESSAGE_HEAD.unpack_from
    for code, at, length in records_of(data, lenient):
        if code == _MESSAGE:
            if length < _MESSAGE_HEAD.size:
                raise Damaged("a message is damaged")
            channel, _, time, _ = unpack(data, at)
            yield channel, time, at, length


def message_at(data: bytes, at: int, length: int) -> tuple[int, int, int, int, bytes]:
    """Return channel, sequence, log time, publish time and content of the message at a place."""
    channel, sequence, log_time, publish_time = _MESSAGE_HEAD.unpack_from(data, at)
    return channel, sequence, log_time, publish_time, data[at + _MESSAGE_HEAD.size : at + length]
