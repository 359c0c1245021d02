"""Preparation of a child process: its options, and what runs between fork and exec."""

from __future__ import annotations

import sys

SAFE_PATH = ("-P",)
"""Option of a Python process of ours: its working directory holds files that messages brought, so it is no place to
import from."""


def die_with_parent() -> None:
    """Ask the kernel to send this process SIGTERM when its parent ends, even by SIGKILL (Linux's PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
