"""Try a version of a model in a process of its own before it answers anybody: a crash of native code ends that process
instead of the server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgpack

from heliograph.bus.contract.payloads import Assignment, InferTask
from heliograph.core.child_process import SAFE_PATH, described_end, dying_with_parent
from heliograph.core.errors import Refused
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import Process, World

MODULE = "heliograph.workers.trial_process"
TRIAL_SECONDS = 180.0
"""Seconds after which a trial is ended. The script imports its framework again in them, while the server works on."""
_TAIL = 4000


@dataclass(frozen=True)
class Trial:
    """What a trial needs.

    Attributes:
        assignment: the worker's own, which names the script.
        code: directories below which the user's code lies.
        digest: of the version's weights, which are ``weights``: a file, or the bytes themselves.
        topic, body: a request that the serving version has answered, and its topic; empty where there was none yet.
    """

    assignment: Assignment
    code: Sequence[Path]
    digest: str
    weights: Path | bytes
    topic: str = ""
    body: bytes = b""


async def objection(trial: Trial, world: World, seconds: float = TRIAL_SECONDS) -> str:
    """Run the script with the version's weights on a request in a child process. Return why the version must not
    answer; empty where it may.

    What the child is told and what it finds go through an open file without a name: no sample lies on the disk.
    Raise OSError where no process can be started.
    """
    shared = os.memfd_create("trial")
    try:
        with os.fdopen(shared, "r+b", closefd=False) as file:
            file.write(_packed(trial))
            file.flush()
        os.lseek(shared, 0, os.SEEK_SET)
        process = await world.spawn(
            [sys.executable, *SAFE_PATH, "-m", MODULE, str(shared)], env={}, cwd=str(Path.cwd()),
            before=dying_with_parent(signal.SIGKILL), inherited=(shared,),
        )  # fmt: skip
        printed = await _end_of(process, seconds)
        if printed is None:
            return f"its trial did not end within {seconds:g} s"
        if process.returncode:
            return f"its trial ended with {described_end(process.returncode)}{_after(printed)}"
        os.lseek(shared, 0, os.SEEK_SET)
        with os.fdopen(shared, "rb", closefd=False) as file:
            return file.read(_TAIL).decode(errors="replace")
    finally:
        os.close(shared)


async def _end_of(process: Process, seconds: float) -> str | None:
    """Wait for a trial's end, and return the end of what it printed; None after so many seconds. It ends with its
    waiter."""
    printed = asyncio.create_task(_printed(process))
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
            return await printed
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await cancel_and_wait(printed)


async def _printed(process: Process) -> str:
    tail = b""
    assert process.stdout is not None
    while more := await process.stdout.read(1 << 16):
        tail = (tail + more)[-_TAIL:]
    return tail.decode(errors="replace")


def _after(printed: str) -> str:
    """Return the last line that was printed, as the end of a sentence."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return f": {lines[-1][:500]}" if lines else ""


def _packed(trial: Trial) -> bytes:
    without = {"model": None} | ({"candidate": None} if isinstance(trial.assignment.task, InferTask) else {})
    task = trial.assignment.task.model_copy(update=without)
    assignment = trial.assignment.model_copy(update={"task": task, "model_file": "", "files": {}})
    fields = {
        "assignment": assignment.model_dump_json(),
        "code": [str(root) for root in trial.code],
        "digest": trial.digest,
        "file": str(trial.weights) if isinstance(trial.weights, Path) else "",
        "inline": trial.weights if isinstance(trial.weights, bytes) else b"",
        "topic": trial.topic,
        "body": trial.body,
    }
    packed: bytes = msgpack.packb(fields)
    return packed


def unpacked(packed: bytes) -> Trial:
    """Return the trial that this process was asked for. Raise Refused if it is none."""
    try:
        fields = msgpack.unpackb(packed)
        return Trial(
            Assignment.model_validate_json(fields["assignment"]),
            [Path(root) for root in fields["code"]],
            fields["digest"],
            Path(fields["file"]) if fields["file"] else fields["inline"],
            fields["topic"],
            fields["body"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Refused("invalid", field="trial", expected="what a serving worker writes", got=str(error)[:500],
                      hint="Trials are started by an inference worker, not by hand.") from None  # fmt: skip
