import asyncio
import gc
import subprocess
import sys
import threading

import pytest

from heliograph.core.loop_thread import LoopThread
from tests.patience import HANGS

ENDING = """
import asyncio, atexit, sys
atexit.register(lambda: said(thread))  # before the import: it runs last
from heliograph.core.loop_thread import LoopThread

async def busy():
    while True:
        await asyncio.sleep(0.0001)

def said(thread):
    try:
        thread.run(asyncio.sleep(0))
    except RuntimeError as error:
        print(error)

thread = LoopThread("mine")
asyncio.run_coroutine_threadsafe(busy(), thread.loop)
"""


def test_a_program_may_end_while_its_loops_are_busy() -> None:
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=HANGS)
        expected = "the thread mine has ended: it was closed, or the program is ending\n"
        assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_a_loop_that_is_forgotten_ends() -> None:
    thread = LoopThread("forgotten")
    running = next(each for each in threading.enumerate() if each.name == "forgotten")
    assert thread.run(asyncio.sleep(0, "answer")) == "answer"
    del thread
    gc.collect()
    running.join(HANGS)
    assert not running.is_alive()


def test_a_closed_loop_refuses_what_comes_later() -> None:
    thread = LoopThread("closed")
    thread.close()
    thread.close()
    with pytest.raises(RuntimeError, match="the thread closed has ended"):
        thread.run(asyncio.sleep(0))
