"""What a new process does before it runs its program."""

from __future__ import annotations

import sys


def die_with_parent() -> None:
    """Run in a new process: SIGTERM when its parent ends, however that ends (Linux's PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
