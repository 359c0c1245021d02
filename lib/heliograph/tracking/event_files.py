"""Read the scalars of TensorBoard's event files.

A file is a sequence of records (TFRecord): a length of 8 bytes and its checksum of 4, then as many bytes, a message
``tensorflow.Event``, and the checksum of these. A checksum is a CRC-32C, turned and shifted. A process that was killed
may have left part of the last record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

EVENT_FILES = "events.out.tfevents.*"
"""Pattern of the files' names, which begin with the time of their making."""
LARGEST = 16 * 1024 * 1024
"""Bytes of a record beyond which a file is taken for damaged."""


def scalars_in(folder: Path) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Yield step and values of each record with scalars, file by file, oldest first. A file ends where it is
    damaged."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob(EVENT_FILES)):
        with path.open("rb") as file:
            for record in _records(file):
                event = Event.FromString(record)
                values = {each.tag: each.simple_value for each in event.summary.value if each.HasField("simple_value")}
                if values:
                    yield event.step, values


def _records(file: BinaryIO) -> Iterator[bytes]:
    while len(head := file.read(12)) == 12:
        length, checksum = struct.unpack("<QI", head)
        if length > LARGEST or checksum != _checksum(head[:8]):
            return
        data, end = file.read(length), file.read(4)
        if len(end) < 4 or struct.unpack("<I", end)[0] != _checksum(data):
            return
        yield data


def _checksum(data: bytes) -> int:
    from tensorboardX.crc32c import crc32c

    found: int = crc32c(data)
    return ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF
