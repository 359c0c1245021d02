"""Preparation of a child process: its options, and what runs between fork and exec."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

SAFE_PATH = ("-P",)
"""Option of a Python process of ours: its working directory holds files that messages brought, so it is no place to
import from."""


def dying_with_parent() -> Callable[[], None]:
    """Return a function for a child of this process to call before exec: the kernel then sends the child SIGTERM when
    its parent ends, even by SIGKILL (Linux's PR_SET_PDEATHSIG). A child whose parent has ended before that ends too."""
    parent = os.getpid()

    def before() -> None:
        if sys.platform == "linux":
            import ctypes
            import signal

            ctypes.CDLL(None).prctl(1, signal.SIGTERM)
            if os.getppid() != parent:  # nobody will send the signal any more
                os._exit(1)

    return before
