"""A child process: its options, what runs between fork and exec, and its end in words."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import sys
from collections.abc import Callable

RUN = "HELIOGRAPH_RUN"
"""The environment variable with the id of the run that a process belongs to; its children inherit it."""
PERMIT = "HELIOGRAPH_START_PERMIT"
"""The environment variable with the file descriptor of the lock that permits a process to start."""

SAFE_PATH = ("-P",)
"""Option of a Python process of ours: its working directory holds files that messages brought, so it is no place to
import from."""

_ENDED = (errno.ESRCH, errno.EINVAL, errno.ENOENT)
"""What the kernel says of a process that has ended; the latter two while its process group has others."""


def dying_with_parent(by: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Return a function for a child of this process to call before exec: the kernel then sends the child a signal when
    its parent ends, even by SIGKILL (Linux's PR_SET_PDEATHSIG). A child whose parent has ended before that ends too."""
    parent = os.getpid()

    def before() -> None:
        if sys.platform == "linux":
            import ctypes

            ctypes.CDLL(None).prctl(1, by)
            if os.getppid() != parent:  # nobody will send the signal any more
                os._exit(1)

    return before


async def wait_for_exit(pid: int) -> None:
    """Wait until a child process has ended, also where a child of its own has its output open: asyncio's own ``wait``
    waits for the output's end too. Return at once where it has ended before."""
    try:
        process = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in _ENDED:
            return
        raise
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(process, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process)
        os.close(process)


def described_end(code: int) -> str:
    """Return the end of a process in words: ``exit code 3``, ``signal 11 (segmentation fault)``.

    Args:
        code: its exit code; that of a signal is negative.
    """
    if code >= 0:
        return f"exit code {code}"
    if -code == signal.SIGKILL:
        return "signal 9 (killed, as by a machine that has run out of memory)"
    try:
        name = signal.strsignal(-code)
    except ValueError:
        name = None
    return f"signal {-code} ({name.lower()})" if name else f"signal {-code}"


def keep_permit() -> None:
    """Let no child of this process inherit its permit, and let the permit end with this process."""
    if number := os.environ.get(PERMIT, ""):
        with contextlib.suppress(OSError):
            os.set_inheritable(int(number), False)


def give_up_permit() -> None:
    """Let another process of this machine start: this one has loaded what it needs. Do nothing where it has no permit,
    or has given it up."""
    if number := os.environ.pop(PERMIT, ""):
        with contextlib.suppress(OSError):
            fcntl.flock(int(number), fcntl.LOCK_UN)  # children that were forked meanwhile have the descriptor too
            os.close(int(number))
