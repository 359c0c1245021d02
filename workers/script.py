"""Runs a user's script in a worker: the script keeps the main thread, the event loop has one beside it.

So a script may use signals, processes and frameworks as it always did.
"""

from __future__ import annotations

import os
import queue
import runpy
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

from heliograph.bus.contract.payloads import Assignment, ScriptTask
from heliograph.core.errors import HeliographError
from heliograph.workers.runtime import log, run


class Host(Protocol):
    """What stands between a script and the bus. Its methods are called from the script's thread."""

    def begin(self) -> Assignment:
        """Waits for the assignment that names the script, and makes itself the script's session."""
        ...

    def failed(self, line: str) -> None:
        """Tell the agent that the script ended with an error."""
        ...

    def finish(self) -> None:
        """Deliver what the script has sent, then end the bus's thread: the script is through."""
        ...


H = TypeVar("H", bound=Host)


def host(serve: Callable[[Callable[[H], None]], Awaitable[None]]) -> int:
    """Runs ``serve`` in an event loop beside and, with the host that it hands over, the script. Returns the process's
    exit code."""
    ready: queue.SimpleQueue[H] = queue.SimpleQueue()
    finished = threading.Event()
    code: list[int] = []

    def loop() -> None:
        code.append(run(lambda: serve(ready.put)))
        if not finished.is_set():  # the bus is gone for good: the script must not wait for ever
            os._exit(code[0] or 1)

    thread = threading.Thread(target=loop, name="bus", daemon=True)
    thread.start()
    mine = ready.get()
    result = run_script(mine)
    finished.set()
    mine.finish()
    thread.join(5)
    return result


def run_script(mine: Host) -> int:
    """Runs the user's script to its end. Returns the process's exit code."""
    task = mine.begin().task
    if not isinstance(task, ScriptTask) or task.script is None:
        log("error: the task names no script")
        return 1
    script = Path(task.script.boot_file)
    sys.path.insert(0, task.script.directory or str(script.parent))
    sys.argv = [str(script)]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        log(str(leaving.code))  # as in Python: a value that is no number is a message, and the exit code is 1
        mine.failed(str(leaving.code))
        return 1
    except HeliographError as error:
        log(f"error: {error}")
        mine.failed(f"error: {error}")
        return 1
    except BaseException as error:  # the user's own: its traceback is what they need
        traceback.print_exception(error.with_traceback(_from_script(error.__traceback__, script)))
        mine.failed(f"{type(error).__name__}: {error}")
        return 1
    return 0


def _from_script(frames: TracebackType | None, script: Path) -> TracebackType | None:
    """The part of a traceback that is the user's: from their script on, without what ran it."""
    part = frames
    while part is not None and part.tb_frame.f_code.co_filename != str(script):
        part = part.tb_next
    return part or frames
