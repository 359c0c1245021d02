"""Calls of the C library by which a process gives up rights, loaded before a fork."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

_NO_NEW_PRIVS = 38


@cache
def libc() -> ctypes.CDLL:
    """Return the C library of this process; ``ctypes.get_errno`` has its error numbers."""
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def gaining_no_privileges() -> Callable[[], None]:
    """Return a function for a new child to call: no program that it runs has more rights than it. Landlock and seccomp
    need that. It raises OSError where it cannot."""
    prctl = libc().prctl

    def keep() -> None:
        if prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl fails")

    return keep
