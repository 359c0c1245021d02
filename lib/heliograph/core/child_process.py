"""Preparation of a child process, run between fork and exec."""

from __future__ import annotations

import sys


def die_with_parent() -> None:
    """Ask the kernel to send this process SIGTERM when its parent ends, even by SIGKILL (Linux's PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
