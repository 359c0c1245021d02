"""A child ends with its parent, also where the parent has ended before the child could ask for it; its end is seen."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from heliograph.core.child_process import wait_for_exit
from tests.patience import HANGS

# the child of PARENT waits until PARENT has ended, or PARENT waits until its child is ready; then the child writes
# nothing more, and its end closes the pipe
PARENT = """
import os, signal, sys, time
from heliograph.core.child_process import dying_with_parent

early = sys.argv[1] == "early"
before, parent = dying_with_parent(), os.getpid()
ready, tell = os.pipe()
if os.fork() == 0:
    while early and os.getppid() == parent:
        time.sleep(0.01)
    before()
    os.write(tell, b"x")
    signal.pause()
if not early:
    os.read(ready, 1)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has PR_SET_PDEATHSIG")
@pytest.mark.parametrize("when", ["early", "late"])
def test_a_child_ends_with_its_parent(when: str) -> None:
    # the output ends only once all processes that have it are gone
    ended = subprocess.run([sys.executable, "-c", PARENT, when], stdout=subprocess.PIPE, timeout=60, check=False)
    assert ended.returncode == -9


async def test_an_ended_child_is_not_waited_for_although_its_group_has_others() -> None:
    leaving = "import os, signal\nif os.fork() == 0: signal.pause()"
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", leaving, start_new_session=True)
    await child.wait()
    try:
        async with asyncio.timeout(HANGS):
            await wait_for_exit(child.pid)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
