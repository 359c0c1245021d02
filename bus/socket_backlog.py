"""Bytes that a socket was given and that the other side's machine has not acknowledged."""

from __future__ import annotations

import contextlib
import fcntl
import struct
import termios
from typing import Protocol

_INTEGER = struct.Struct("i")


class HasFileno(Protocol):
    def fileno(self) -> int: ...


def unacknowledged(sock: HasFileno) -> int:
    """Return how many bytes wait in the kernel, sent or not (Linux: SIOCOUTQ); 0 where it does not tell."""
    with contextlib.suppress(OSError, ValueError):
        found = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_INTEGER.size))
        return int(_INTEGER.unpack(found)[0])
    return 0
