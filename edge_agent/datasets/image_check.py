"""Whether a file is a whole image, told without decoding it: by its first bytes, lengths, checksums and its end."""

from __future__ import annotations

import os
import struct
import zlib
from typing import BinaryIO

from heliograph.edge_agent.datasets.unusable import Unusable

END = 4096
"""Bytes at a file's end in which its last mark may lie: some cameras and editors add a few."""
_PNG = b"\x89PNG\r\n\x1a\n"
_BLOCK = 1 << 20
_OTHERS = (b"II*\0", b"MM\0*", *(b"P%d" % number for number in range(1, 8)))
"""First bytes of forms that have no mark at their end: TIFF and netpbm."""


def check_image(file: BinaryIO, size: int) -> None:
    """Raise Unusable if a file is no image of a known form, or not a whole one.

    Of a PNG each part's checksum is compared; of JPEG, GIF, WebP and BMP the lengths or the last mark.
    """
    file.seek(0)
    head = file.read(32)
    if head.startswith(_PNG):
        return _check_png(file, size)
    if head.startswith(b"\xff\xd8\xff"):
        return _check_end(file, size, b"\xff\xd9", "JPEG")
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return _check_end(file, size, b"\x3b", "GIF")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _check_length(int.from_bytes(head[4:8], "little") + 8, size, "WebP")
    if head[:2] == b"BM" and len(head) >= 26:
        return _check_length(int.from_bytes(head[2:6], "little"), size, "BMP")
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1"):
        return None
    if head.startswith(_OTHERS) and size > 8:
        return None
    raise Unusable("is no image: its first bytes are those of no known form; copy it again, or take it away")


def _check_png(file: BinaryIO, size: int) -> None:
    place = len(_PNG)
    first = True
    while True:
        file.seek(place)
        start = file.read(8)
        if len(start) < 8:
            raise _truncated("PNG")
        length, kind = struct.unpack(">I4s", start)
        if (kind == b"IHDR") != first or length > size - place - 12:
            raise Unusable("is a damaged PNG image; copy it again, or take it away") if first else _truncated("PNG")
        checksum = zlib.crc32(kind)
        left = length
        while left:
            data = file.read(min(left, _BLOCK))
            if not data:
                raise _truncated("PNG")
            checksum, left = zlib.crc32(data, checksum), left - len(data)
        if file.read(4) != struct.pack(">I", checksum):
            raise Unusable("is a damaged PNG image: a checksum is wrong; copy it again, or take it away")
        if kind == b"IEND":
            return
        place, first = place + 12 + length, False


def _check_end(file: BinaryIO, size: int, mark: bytes, form: str) -> None:
    file.seek(max(0, size - END), os.SEEK_SET)
    if mark not in file.read(END):
        raise _truncated(form)


def _check_length(told: int, size: int, form: str) -> None:
    if told > size:
        raise _truncated(form)


def _truncated(form: str) -> Unusable:
    return Unusable(f"is a truncated {form} image; copy it again, or take it away")
