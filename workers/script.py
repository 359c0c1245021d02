"""Run a user's script in a worker: the script keeps the main thread, the event loop runs in a second one.

So a script may use signals, processes and frameworks as it does outside a worker.
"""

from __future__ import annotations

import atexit
import os
import queue
import runpy
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar
from zipimport import zipimporter

from heliograph.bus.contract.payloads import Assignment, ScriptSpec, ScriptTask, ServedModel, ServingTask
from heliograph.core.errors import HeliographError, Refused
from heliograph.workers.runtime import log, run
from heliograph.workers.script_end import ScriptEnd


class Host(Protocol):
    """The link between a script and the bus. The script's thread calls its methods."""

    @property
    def code(self) -> Sequence[Path]:
        """The directories below which the user's code lies."""
        ...

    def begin(self) -> Assignment:
        """Wait for the assignment that names the script, and become the script's session."""
        ...

    def conclude(self, error: BaseException | None) -> ScriptEnd:
        """Send what the script's last round still has to send, and return what the script's end means.

        Args:
            error: the exception that ended the script; None where it ran to its end.
        """
        ...

    def failed(self, line: str, final: bool) -> None:
        """Report to the agent that the script failed; ``final`` if another start does not mend it."""
        ...

    def finish(self) -> None:
        """Deliver all that the script has sent, then end the bus's thread; called when the script has ended."""
        ...


H = TypeVar("H", bound=Host)
LINGERING = 5.0
"""Seconds for the bus to deliver what it can after the script's end."""


def run_with_host(serve: Callable[[Callable[[H], None]], Awaitable[None]]) -> int:
    """Run ``serve`` in an event loop of a second thread, and the script with the host that ``serve`` hands over.
    Return the process's exit code."""
    ready: queue.SimpleQueue[H] = queue.SimpleQueue()
    finished = threading.Event()

    def loop() -> None:
        code = 1
        try:
            code = run(lambda: serve(ready.put))
        except BaseException:
            log(traceback.format_exc())
        finally:
            if not finished.is_set():  # the bus is gone for good: the script must not wait for ever
                os._exit(code or 1)

    thread = threading.Thread(target=loop, name="bus", daemon=True)
    codes: list[int] = []

    def leave() -> None:
        """Leave at once where the loop still runs: its next callback would crash an interpreter that is ending."""
        if codes and thread.is_alive():
            try:
                sys.stdout.flush()
            finally:  # also where nobody reads it any more, or the script has closed it
                os._exit(codes[0])

    atexit.register(leave)  # before the script registers anything: its own handlers run first
    thread.start()
    host = ready.get()
    worker = os.getpid()
    result = run_script(host)
    if os.getpid() != worker:
        return result
    codes.append(result)
    finished.set()
    host.finish()
    thread.join(LINGERING)
    return result


def run_script(host: Host) -> int:
    """Run the user's script to its end. Return the process's exit code.

    Also a child process that the script has forked returns here; it has no bus.
    """
    worker = os.getpid()
    task = host.begin().task
    if isinstance(task, ServingTask) and task.served is not None:
        return _serve_file(host, task, task.served)
    if not isinstance(task, ScriptTask) or task.script is None:
        log("error: the task names no script")
        return 1
    try:
        script, directory = _code_of(task.script, host.code)
    except Refused as error:  # whoever reaches the node's broker may publish an assignment
        log(f"error: {error}")
        host.failed(f"error: {error}", False)
        return 1
    _import_from(directory)
    sys.argv = [str(script), *task.script.arguments]
    error_of_script: BaseException | None = None
    try:
        runpy.run_path(str(script), run_name="__main__")
    except BaseException as error:
        error_of_script = error
    if os.getpid() != worker:
        return _end_child(error_of_script, script)
    end = host.conclude(error_of_script)
    if error_of_script is not None and end.traceback:
        _show(error_of_script, script)
    elif end.line:
        log(end.line)
    if end.line or end.final:
        host.failed(end.line, end.final)
    return end.code


def _serve_file(host: Host, task: ServingTask, served: ServedModel) -> int:
    """Serve a model's file in place of a script. Return the process's exit code."""
    from heliograph.workers.served_model import serve_file  # a training worker needs no inference

    error_of_serving: BaseException | None = None
    try:
        serve_file(task, served)
    except HeliographError as error:
        error_of_serving = error
    end = host.conclude(error_of_serving)
    if end.line:
        log(end.line)
        host.failed(end.line, end.final)
    return end.code


def _end_child(error: BaseException | None, script: Path) -> int:
    """Return the exit code of a process that the script has forked, as Python would end it."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        _show(error, script)
        return 1
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    log(str(error.code))
    return 1


def _code_of(named: ScriptSpec, roots: Sequence[Path]) -> tuple[Path, Path]:
    """Return the script and the directory that it imports from. Raise Refused where a root has not both below it."""
    script = Path(named.boot_file)
    directory = Path(named.directory) if named.directory else script.parent
    resolved = script.resolve(), directory.resolve()
    if not any(all(path.is_relative_to(root) for path in resolved) for root in roots):
        allowed = f"paths below {' or '.join(map(str, roots))}" if roots else "none: this worker runs no script"
        raise Refused("not-allowed", field="script", expected=allowed, got=f"{script}, directory {directory}")
    return script, directory


def _import_from(directory: Path) -> None:
    """Let the script import from its directory and from the installed packages, and from nowhere else.

    A worker's own directory holds files that messages brought, and so may a zip file anywhere.
    """
    working = Path.cwd()
    rest = [entry for entry in sys.path if entry and Path(entry).resolve() != working]
    sys.path[:] = [str(directory), *rest]
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if hook is not zipimporter]


def _show(error: BaseException, script: Path) -> None:
    """Show the user's own error, as Python does."""
    traceback.print_exception(error.with_traceback(_from_script(error.__traceback__, script)))


def _from_script(frames: TracebackType | None, script: Path) -> TracebackType | None:
    """Return the traceback from the user's script on, without the frames that ran it."""
    part = frames
    while part is not None and part.tb_frame.f_code.co_filename != str(script):
        part = part.tb_next
    return part or frames
