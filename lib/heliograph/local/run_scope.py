"""The scope of a command that starts processes: they end with the command, and its temporary directory goes with them,
however the command ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from heliograph.core import orphans
from heliograph.core.child_process import RUN
from heliograph.core.world import World

GRACE = 8.0
"""Seconds in which processes may end by themselves once the command has been killed; an agent needs less."""


@contextmanager
def scratch(keep: Path | None = None) -> Iterator[Path]:
    """Yield a directory for processes that end with this one. It is deleted with them unless ``keep`` names one."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        with ending_together():
            yield keep
        return
    directory = Path(mkdtemp(prefix="heliograph-")).resolve()
    with ending_together(directory):
        yield directory


@contextmanager
def ending_together(directory: Path | None = None, grace: float = GRACE) -> Iterator[None]:
    """Let every process that starts inside, and each that it starts, end with this one, also where this one is killed.
    Then delete the directory. A process that has not ended ``grace`` seconds after a kill is killed too.

    A process has to inherit its environment, as those of ``World.spawn`` do.
    """
    outer, run = os.environ.get(RUN), World().new_id()
    # the pipe ends with this process: nobody else has its other end. In a session of its own it gets no signal
    # of a terminal.
    left_behind = subprocess.Popen(
        [sys.executable, "-I", "-S", orphans.__file__, "0", f"{RUN}={run}", str(grace), str(directory or "")],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
        env={key: value for key, value in os.environ.items() if key != RUN},
    )  # fmt: skip
    os.environ[RUN] = run
    try:
        yield
    finally:
        if outer is None:
            del os.environ[RUN]
        else:
            os.environ[RUN] = outer
        assert left_behind.stdin is not None
        with contextlib.suppress(OSError):  # it has been killed
            left_behind.stdin.write(b"stopped")
            left_behind.stdin.close()
        left_behind.wait()
