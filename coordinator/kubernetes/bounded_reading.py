"""Answers of an API server, read within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from heliograph.core.errors import Unreachable

MAX_BODY = 16 << 20
"""Bytes of an answer. An object has 1.5 MB at most, where etcd's limit is its default."""
MAX_LINE = 4 << 20
"""Bytes of one change in a watch: an object, and what JSON adds to it."""


class TooLarge(Unreachable):
    """An answer is longer than what is read of one."""


class Content(Protocol):
    """The body of an answer, as ``aiohttp.StreamReader`` has it."""

    def iter_any(self) -> AsyncIterator[bytes]: ...


async def read_all(content: Content, most: int = MAX_BODY) -> bytes:
    """Return a whole body. Raise TooLarge as soon as more than ``most`` bytes have come."""
    parts, size = list[bytes](), 0
    async for part in content.iter_any():
        size += len(part)
        if size > most:
            raise TooLarge(f"expected an answer of at most {most} bytes, got more")
        parts.append(part)
    return b"".join(parts)


async def lines_of(content: Content, most: int = MAX_LINE) -> AsyncIterator[bytes]:
    """Yield each line that is not empty; the last one may lack its end only if it is empty.

    Raise TooLarge where a line has more than ``most`` bytes, and Unreachable where the last one is cut off.
    """
    parts, size = list[bytes](), 0
    async for part in content.iter_any():
        *ended, rest = part.split(b"\n")
        for line in ended:
            if size + len(line) > most:
                raise TooLarge(f"expected a line of at most {most} bytes, got more")
            if whole := b"".join((*parts, line)).strip():
                yield whole
            parts, size = [], 0
        if rest:
            parts.append(rest)
            size += len(rest)
            if size > most:
                raise TooLarge(f"expected a line of at most {most} bytes, got more")
    if b"".join(parts).strip():
        raise Unreachable("the answer broke off within a line")
