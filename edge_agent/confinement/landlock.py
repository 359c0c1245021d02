"""Landlock: a process gives up all files and TCP ports but those that a ruleset names, for itself and its children.

Kernel interface: https://docs.kernel.org/userspace-api/landlock.html. A ruleset is made before a fork, and entered
after it by one call.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import stat
from collections.abc import Callable, Iterable
from enum import IntFlag
from functools import cache
from pathlib import Path

from heliograph.edge_agent.confinement.kernel import libc

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_FLAG = 1
_PATH_RULE, _PORT_RULE = 1, 2
_SAME_NUMBERS = ("x86_64", "aarch64", "arm64", "riscv64", "armv7l", "armv6l", "i686", "ppc64le", "s390x")
"""Machines on which the calls above have these numbers; alpha is the one that has not."""
NETWORK_FROM = 4
"""The first version of the interface that bounds TCP."""
SCOPES_FROM = 6
"""The first version that keeps signals and abstract sockets within."""


class Files(IntFlag):
    """Rights to files and directories, with the kernel's numbers."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIRECTORY = 1 << 3
    REMOVE_DIRECTORY = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHARACTER_DEVICE = 1 << 6
    MAKE_DIRECTORY = 1 << 7
    MAKE_FILE = 1 << 8
    MAKE_SOCKET = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK_DEVICE = 1 << 11
    MAKE_LINK = 1 << 12
    MOVE = 1 << 13
    TRUNCATE = 1 << 14
    CONTROL_DEVICE = 1 << 15


READ = Files.EXECUTE | Files.READ_FILE | Files.READ_DIRECTORY
WRITE = (
    READ | Files.WRITE_FILE | Files.REMOVE_DIRECTORY | Files.REMOVE_FILE | Files.MAKE_DIRECTORY | Files.MAKE_FILE
    | Files.MAKE_SOCKET | Files.MAKE_FIFO | Files.MAKE_LINK | Files.MOVE | Files.TRUNCATE
)  # fmt: skip
DEVICE = Files.READ_FILE | Files.READ_DIRECTORY | Files.WRITE_FILE | Files.CONTROL_DEVICE
_OF_FILES = Files.EXECUTE | Files.WRITE_FILE | Files.READ_FILE | Files.TRUNCATE | Files.CONTROL_DEVICE
"""Rights that a rule about a file may have; the others are about directories."""
_SINCE = ((2, Files.MOVE), (3, Files.TRUNCATE), (5, Files.CONTROL_DEVICE))
_BIND, _CONNECT = 1, 2
_SCOPES = 3


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _PortRule(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


@cache
def version() -> int:
    """Return the version of the kernel's interface; 0 where there is none."""
    if platform.system() != "Linux" or platform.machine() not in _SAME_NUMBERS:
        return 0
    return max(0, int(libc().syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION_FLAG)))


def make_ruleset(
    rights: Iterable[tuple[Path, Files]], connect: Iterable[int] | None = None, known: int | None = None
) -> int:
    """Return the descriptor of a ruleset, to be closed by the caller. Raise OSError where the kernel makes none.

    Args:
        rights: what is allowed below a directory, or on a file. What does not exist is left out.
        connect: TCP ports to connect to, on any host, and none to listen at; None: the network is not bounded.
        known: the version of the interface; default: the kernel's.
    """
    known = version() if known is None else known
    handled = _known_files(known)
    network = _BIND | _CONNECT if connect is not None and known >= NETWORK_FROM else 0
    attributes = _Ruleset(handled, network, _SCOPES if known >= SCOPES_FROM else 0)
    size = 8 if known < NETWORK_FROM else 16 if known < SCOPES_FROM else 24
    ruleset = _checked(libc().syscall(_CREATE, ctypes.byref(attributes), ctypes.c_size_t(size), 0))
    try:
        for path, allowed in rights:
            with contextlib.suppress(FileNotFoundError, PermissionError, NotADirectoryError):
                _allow_path(ruleset, path, allowed & handled)
        for port in connect or () if network else ():
            rule = _PortRule(_CONNECT, port)
            _checked(libc().syscall(_ADD, ruleset, _PORT_RULE, ctypes.byref(rule), 0))
    except OSError:
        os.close(ruleset)
        raise
    return ruleset


def entering(ruleset: int) -> Callable[[], None]:
    """Return a function for a new child to call: it enters the ruleset, once it may gain no privileges.

    It raises OSError where it cannot. All that it needs is loaded before the fork.
    """
    syscall = libc().syscall

    def enter() -> None:
        if syscall(_RESTRICT, ruleset, 0) != 0:
            raise OSError(ctypes.get_errno(), "Landlock refuses")

    return enter


def _allow_path(ruleset: int, path: Path, allowed: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            allowed &= _OF_FILES
        rule = _PathRule(allowed, descriptor)
        _checked(libc().syscall(_ADD, ruleset, _PATH_RULE, ctypes.byref(rule), 0))
    finally:
        os.close(descriptor)


def _known_files(known: int) -> int:
    unknown = sum(right for since, right in _SINCE if known < since)
    return sum(Files) & ~unknown


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno() or errno.EPERM
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
