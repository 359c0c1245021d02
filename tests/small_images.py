"""Whole images of one pixel, of each form that has a mark at its end."""

from __future__ import annotations

import struct
import zlib


def small_png(comment: str = "") -> bytes:
    """Return a PNG; two with different comments are different files."""
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)), (b"tEXt", b"Comment\0" + comment.encode()),
             (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b""))  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


WHOLE = {
    "a.png": small_png(),
    "a.jpg": b"\xff\xd8\xff\xe0" + bytes(60) + b"\xff\xd9",
    "a.gif": b"GIF89a" + bytes(40) + b"\x3b",
    "a.webp": b"RIFF" + struct.pack("<I", 40) + b"WEBP" + bytes(36),
    "a.bmp": b"BM" + struct.pack("<I", 70) + bytes(64),
    "a.pgm": b"P5 1 1 255\n\0",
}
