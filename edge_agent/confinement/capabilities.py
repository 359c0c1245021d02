"""Drop the privileges of a worker whose agent runs as root: with them it could read the agent's environment.

Kernel interface: capset(2), capabilities(7).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_VERSION_3 = 0x20080522
_BOUNDING_DROP, _AMBIENT, _AMBIENT_CLEAR_ALL = 24, 47, 4
_LAST = 63
DAC_OVERRIDE = 1
"""To open files of other users, such as data sets: which ones is decided by Landlock."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Half(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def dropping(kept: int = 1 << DAC_OVERRIDE) -> Callable[[], None]:
    """Return a function for a new child to call: it gives up all capabilities but these, for ever.

    It raises OSError where it cannot. A process without capabilities has none to give up.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    prctl, capset, capget = libc.prctl, libc.capset, libc.capget
    header = _Header(_VERSION_3, 0)
    halves = (_Half * 2)()

    def drop() -> None:
        for number in range(_LAST + 1):
            if not kept >> number & 1:
                prctl(_BOUNDING_DROP, number, 0, 0, 0)  # fails where there is none of that number, or no right to
        prctl(_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
        if capget(ctypes.byref(header), halves) != 0:
            raise OSError(ctypes.get_errno(), "capget fails")
        for place, half in enumerate(halves):
            mask = kept >> 32 * place & 0xFFFFFFFF
            half.effective &= mask
            half.permitted &= mask
            half.inheritable = 0
        if capset(ctypes.byref(header), halves) != 0:
            raise OSError(ctypes.get_errno(), "capset fails")

    return drop
