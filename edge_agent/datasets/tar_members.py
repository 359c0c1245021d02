"""The members of a tar, one after the other, from a stream: ustar, GNU's and pax's long names.

Nothing is unpacked by this module. A member whose name leads out of the tar, a link or a device is refused; no header
decides how much is read into memory. The standard library's reader keeps every member, and reads a pax header of any
size.

Format: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.unusable import Unusable

BLOCK = 512
MAX_NAME = 4096
"""Bytes of a member's name."""
MAX_PAX = 1 << 20
"""Bytes of a pax header."""
_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe",
          b"S": "a sparse file", b"D": "a directory dump", b"M": "a part of another tar"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file or a directory in a tar. Read ``content`` before the next member is asked for."""

    name: str
    size: int
    directory: bool
    content: Content


class Content:
    """The bytes of one member."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self.left = size

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; none at the end. Raise Unusable where the tar ends first."""
        wanted = min(size, self.left)
        data = self._stream.read(wanted) if wanted else b""
        if wanted and not data:
            raise Unusable("is a truncated tar; copy it again")
        self.left -= len(data)
        return data

    def skip(self) -> None:
        while self.read(1 << 20):
            pass


def members(stream: BinaryIO) -> Iterator[Member]:
    """Yield the members in their order. Raise Unusable, naming the member, for one that is not accepted."""
    name, size, count = "", None, 0
    while True:
        header = stream.read(BLOCK)
        if len(header) < BLOCK:
            raise Unusable("is truncated or no tar: it does not end with empty blocks; copy it again")
        if not any(header):
            if not count:
                raise Unusable("is an empty tar; write the data set again")
            return
        _check_sum(header)
        kind, length = header[156:157], _number(header[124:136])
        if kind in (b"L", b"x", b"g", b"K"):
            found_name, found_size = _extended(stream, kind, length)
            name, size = found_name or name, found_size if found_size is not None else size
            continue
        name = name or _name(header)
        length = size if size is not None else length
        if kind not in (b"0", b"\0", b"7", b"5"):
            raise Unusable(f"holds {shorten(name)}, {_KINDS.get(kind, 'a member of unknown kind')}; "
                           "pack files alone")  # fmt: skip
        _check_name(name)
        directory = kind == b"5" or name.endswith("/")
        content = Content(stream, 0 if directory else length)
        yield Member(name.rstrip("/"), content.left, directory, content)
        content.skip()
        if not directory:
            _pass_padding(stream, length)
        name, size, count = "", None, count + 1


def _check_sum(header: bytes) -> None:
    told = _number(header[148:156])
    if told != sum(header[:148]) + 256 + sum(header[156:]):
        raise Unusable("is damaged or no tar: the checksum of a header is wrong; copy it again")


def _check_name(name: str) -> None:
    parts = name.removeprefix("./").rstrip("/").split("/")
    if name.startswith("/") or ".." in parts:
        raise Unusable(f"holds {shorten(name)}, whose name leads out of the tar; pack it with relative names")
    if not name or any(ord(each) < 32 for each in name):
        raise Unusable(f"holds a member with the name {shorten(name)!r}; rename it")


def _extended(stream: BinaryIO, kind: bytes, length: int) -> tuple[str, int | None]:
    """Return name and size that a header before a member tells."""
    if length > (MAX_PAX if kind in (b"x", b"g") else MAX_NAME):
        raise Unusable(f"holds a header of {length} bytes; pack it again with plain names")
    content = Content(stream, length)
    data = b""
    while part := content.read(1 << 20):
        data += part
    _pass_padding(stream, length)
    if kind == b"L":
        return data.split(b"\0")[0].decode("utf-8", "replace"), None
    return _pax(data) if kind == b"x" else ("", None)


def _pass_padding(stream: BinaryIO, length: int) -> None:
    Content(stream, -length % BLOCK).skip()


def _pax(data: bytes) -> tuple[str, int | None]:
    name, size = "", None
    while data:
        digits, space, rest = data.partition(b" ")
        if not space or not digits.isdigit() or len(digits) > 8 or not len(digits) < int(digits) <= len(data):
            raise Unusable("holds a damaged pax header; pack it again")
        record = rest[: int(digits) - len(digits) - 1]
        key, _, value = record.rstrip(b"\n").partition(b"=")
        if key == b"path":
            name = value[:MAX_NAME].decode("utf-8", "replace")
        elif key == b"size":
            size = int(value) if value.isdigit() and len(value) < 16 else -1
        elif key.startswith(b"GNU.sparse"):
            raise Unusable("holds a sparse file; pack files alone")
        data = data[int(digits) :]
    if size is not None and size < 0:
        raise Unusable("holds a pax header with a damaged size; pack it again")
    return name, size


def _name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    whole = prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name
    return whole.decode("utf-8", "replace")


def _number(field: bytes) -> int:
    """Return a number in octal digits, or as GNU writes large ones."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big") & ((1 << 62) - 1)
    text = field.split(b"\0")[0].strip()
    if not text:
        return 0
    try:
        return int(text, 8)
    except ValueError:
        raise Unusable("is damaged or no tar: a number in a header is none; copy it again") from None
