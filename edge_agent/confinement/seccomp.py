"""A seccomp filter for workers: system calls that no training and no inference needs, and that reach beyond a process.

Kernel interface: https://docs.kernel.org/userspace-api/seccomp_filter.html. The filter is a list rather than a set
of what is allowed: frameworks use most system calls, and another version of one would fail with an allowed set.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from heliograph.edge_agent.confinement.kernel import libc

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_PRCTL_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
"""Offsets in ``seccomp_data``: the call's number, the architecture, the lower halves of its first two arguments."""
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020080
"""The flags of ``clone`` that make namespaces: time, mount, cgroup, UTS, IPC, user, PID and network."""
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_STREAM, _TYPE = 1, 0xF


@dataclass(frozen=True)
class _Machine:
    """The kernel's number of an architecture, and those of its calls."""

    audit: int
    calls: Mapping[str, int]


_MACHINES = {
    "x86_64": _Machine(0xC000003E, {
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "pidfd_getfd": 438,
        "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "open_tree": 428, "move_mount": 429,
        "fsopen": 430, "fsmount": 432, "mount_setattr": 442, "swapon": 167, "swapoff": 168, "unshare": 272,
        "setns": 308, "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173,
        "init_module": 175, "finit_module": 313, "delete_module": 176, "kexec_load": 246, "kexec_file_load": 320,
        "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425, "add_key": 248,
        "request_key": 249, "keyctl": 250, "settimeofday": 164, "clock_settime": 227, "clock_adjtime": 305,
        "adjtimex": 159, "acct": 163, "quotactl": 179, "syslog": 103, "open_by_handle_at": 304, "vhangup": 153,
        "mknod": 133, "mknodat": 259, "clone": 56, "clone3": 435, "socket": 41, "setsid": 112, "setpgid": 109,
    }),
    "aarch64": _Machine(0xC00000B7, {
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "pidfd_getfd": 438,
        "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "open_tree": 428, "move_mount": 429,
        "fsopen": 430, "fsmount": 432, "mount_setattr": 442, "swapon": 224, "swapoff": 225, "unshare": 97,
        "setns": 268, "reboot": 142, "sethostname": 161, "setdomainname": 162, "init_module": 105,
        "finit_module": 273, "delete_module": 106, "kexec_load": 104, "kexec_file_load": 294, "bpf": 280,
        "perf_event_open": 241, "userfaultfd": 282, "io_uring_setup": 425, "add_key": 217, "request_key": 218,
        "keyctl": 219, "settimeofday": 170, "clock_settime": 112, "clock_adjtime": 266, "adjtimex": 171, "acct": 89,
        "quotactl": 60, "syslog": 116, "open_by_handle_at": 265, "vhangup": 58, "mknodat": 33, "clone": 220,
        "clone3": 435, "socket": 198, "setsid": 157, "setpgid": 154,
    }),
}  # fmt: skip
_HANDLED_APART = frozenset({"clone", "clone3", "socket", "setsid", "setpgid", "mknod", "mknodat"})


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def available() -> bool:
    """Return whether this machine's calls are known here, and the kernel takes filters."""
    if platform.system() != "Linux" or platform.machine() not in _MACHINES:
        return False
    # an invalid address is EFAULT where filters exist, EINVAL where they do not
    return libc().prctl(_PRCTL_SECCOMP, _MODE_FILTER, None, 0, 0) != 0 and ctypes.get_errno() == errno.EFAULT


def program(datagrams: bool, machine: str = "") -> bytes:
    """Return the filter's instructions.

    A denied call fails with EPERM. ``setsid`` and ``setpgid`` succeed and do nothing, so that all processes of a worker
    stay in its process group and one signal ends them. ``clone3``, whose flags no filter can read, fails as unknown:
    the C library then takes ``clone``.

    Args:
        datagrams: whether sockets other than TCP's, Unix's and the kernel's own are allowed.
        machine: as ``platform.machine()`` says it; default: this one.
    """
    found = _MACHINES[machine or platform.machine()]
    calls, built = found.calls, _Builder()
    built.add(_LOAD, _ARCHITECTURE)
    built.unless_equal(found.audit, _deny(errno.EPERM))
    built.add(_LOAD, _NUMBER)
    if (machine or platform.machine()) == "x86_64":  # the same calls under other numbers
        built.branch(_AT_LEAST, _X32, [_deny(errno.ENOSYS)])
    for name, number in calls.items():
        if name not in _HANDLED_APART:
            built.branch(_EQUAL, number, [_deny(errno.EPERM)])
    for name in ("setsid", "setpgid"):
        built.branch(_EQUAL, calls[name], [_deny(0)])
    built.branch(_EQUAL, calls["clone3"], [_deny(errno.ENOSYS)])
    built.branch(_EQUAL, calls["clone"], [
        (_LOAD, 0, 0, _FIRST), (_ANY_BIT, 0, 1, _NEW_NAMESPACES), _deny(errno.EPERM), (_RETURN, 0, 0, _ALLOW),
    ])  # fmt: skip
    if not datagrams:
        built.branch(_EQUAL, calls["socket"], [
            (_LOAD, 0, 0, _FIRST), (_EQUAL, 6, 0, _UNIX), (_EQUAL, 5, 0, _NETLINK),
            (_EQUAL, 1, 0, _INET), (_EQUAL, 0, 4, _INET6),
            (_LOAD, 0, 0, _SECOND), (_AND, 0, 0, _TYPE), (_EQUAL, 0, 1, _STREAM),
            (_RETURN, 0, 0, _ALLOW), _deny(errno.EPERM),
        ])  # fmt: skip
    built.add(_RETURN, _ALLOW)
    return built.bytes()


def entering(instructions: bytes) -> Callable[[], None]:
    """Return a function for a new child to call: it enters the filter, once it may gain no privileges. It raises
    OSError where it cannot."""
    filter_program = _Program(len(instructions) // 8, instructions)
    prctl, reference = libc().prctl, ctypes.byref(filter_program)

    def enter() -> None:
        if prctl(_PRCTL_SECCOMP, _MODE_FILTER, reference, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "seccomp refuses")

    return enter


_Instruction = tuple[int, int, int, int]


def _deny(number: int) -> _Instruction:
    return (_RETURN, 0, 0, _ERRNO | number)


class _Builder:
    """Instructions of the classic BPF: operation, jump where true, jump where false, operand."""

    def __init__(self) -> None:
        self._built: list[_Instruction] = []

    def add(self, operation: int, operand: int) -> None:
        self._built.append((operation, 0, 0, operand))

    def unless_equal(self, operand: int, instruction: _Instruction) -> None:
        self._built += [(_EQUAL, 1, 0, operand), instruction]

    def branch(self, test: int, operand: int, then: Sequence[_Instruction]) -> None:
        """Run ``then``, which returns, where the loaded number passes the test; else skip it."""
        self._built += [(test, 0, len(then), operand), *then]

    def bytes(self) -> bytes:
        return b"".join(struct.pack("=HBBI", *each) for each in self._built)
