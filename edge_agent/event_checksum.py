"""The checksum that the journal stores with each event."""

from __future__ import annotations

import zlib


def checksum(topic: str, body: bytes) -> int:
    """CRC-32 of the event; detects corruption."""
    return zlib.crc32(body, zlib.crc32(topic.encode()))
