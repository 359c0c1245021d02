"""Take privileges from a worker whose agent runs as root: it becomes a user of its own, who may only open files.

Under root's number the kernel would count none of its processes, and some of root's privileges show it the agent's
environment. Which files it may open is decided by Landlock. Kernel interface: capset(2), capabilities(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import zlib
from collections.abc import Callable
from pathlib import Path

from heliograph.edge_agent.confinement.kernel import libc

_VERSION_3 = 0x20080522
_KEEP, _BOUNDING_DROP, _AMBIENT = 8, 24, 47
_RAISE, _CLEAR_ALL = 2, 4
_LAST = 63
_DAC_OVERRIDE, _SETGID, _SETUID, _SETPCAP = 1, 6, 7, 8
_USERS = range(61184, 65520)
"""The numbers that systemd, too, gives to services without a user of their own; no person has one."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Half(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def gives_own_users() -> bool:
    """Return whether this process may give each worker a user of its own."""
    needed = sum(1 << each for each in (_DAC_OVERRIDE, _SETGID, _SETUID, _SETPCAP))
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        effective = next(line for line in lines if line.startswith("CapEff:"))
        return os.geteuid() == 0 and int(effective.split()[1], 16) & needed == needed
    return False


def user_of(directory: Path) -> int:
    """Return the number of the user that the worker with this directory becomes.

    Two workers that get the same one share
    the bound of their processes, and nothing else.
    """
    return _USERS[zlib.crc32(os.fsencode(directory)) % len(_USERS)]


def becoming(user: int | None) -> Callable[[], None]:
    """Return a function for a new child to call: it gives up all capabilities for ever.

    It raises OSError where it cannot, and forgets the signal that the parent's end would send.

    Args:
        user: the user that it becomes, with the right to open files of all users; None: it stays who it is.
    """
    prctl, capset = libc().prctl, libc().capset
    kept = 1 << _DAC_OVERRIDE if user is not None else 0
    header, halves = _Header(_VERSION_3, 0), (_Half * 2)(_Half(kept, kept, kept))

    def become() -> None:
        for number in range(_LAST + 1):
            if not kept >> number & 1:
                prctl(_BOUNDING_DROP, number, 0, 0, 0)  # fails where there is none of that number, or no right to
        prctl(_AMBIENT, _CLEAR_ALL, 0, 0, 0)
        if user is not None:
            prctl(_KEEP, 1, 0, 0, 0)
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        if capset(ctypes.byref(header), halves) != 0:
            raise OSError(ctypes.get_errno(), "capset fails")
        if user is not None and prctl(_AMBIENT, _RAISE, _DAC_OVERRIDE, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl fails")

    return become
