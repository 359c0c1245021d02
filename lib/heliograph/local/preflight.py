"""The check of a training script before any round: a process runs it up to its first round (see ``probe``)."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from heliograph.core import orphans
from heliograph.core.child_process import SAFE_PATH, described_end, dying_with_parent, wait_for_exit
from heliograph.core.errors import HeliographError
from heliograph.core.private_files import make_private
from heliograph.core.world import Process, World
from heliograph.edge_agent.outputs import Outputs
from heliograph.local.probe import JOB, Spec, Verdict

PATIENCE = 30.0
"""Seconds that a run waits for the check; it goes on without a verdict then."""
MAX_OUTPUT = 64 * 1024
"""Bytes of the script's newest output that are kept, to show why it failed."""


class ScriptRefused(HeliographError):
    """A script that cannot begin.

    Attributes:
        lines: the last lines that it printed, the frames of its traceback that are the user's own among them.
    """

    def __init__(self, reason: str, lines: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.lines = list(lines)


@dataclass(frozen=True)
class Check:
    """What to check.

    Attributes:
        shown: the script as it was typed.
        train, evaluate: what the first edge and the evaluation worker would run; ``evaluate`` is None without a test.
        directory: a directory for the processes.
        test: what the test samples are, in words: ``--test 0.2``.
    """

    shown: str
    train: Spec
    directory: Path
    evaluate: Spec | None = None
    test: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Checked:
    """A script that can begin, or of which nothing is known yet.

    Attributes:
        verdicts: what the processes found; None where the patience ended before one had.
    """

    train: Verdict | None
    evaluate: Verdict | None = None


def check_syntax(script: Path, shown: str) -> None:
    """Raise ScriptRefused where a script is missing or is no Python, without running it."""
    if not script.is_file():
        raise ScriptRefused(f"{shown}: there is no such script")
    try:
        source = script.read_bytes()
    except OSError as error:
        raise ScriptRefused(f"{shown} cannot be read: {error.strerror}") from None
    try:
        compile(source, str(script), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        line = (error.text or "").rstrip() if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ScriptRefused(f"{shown}{where} is no Python: {reason}", [line] if line else []) from None


async def check(what: Check, world: World, patience: float = PATIENCE) -> Checked:
    """Run the script up to its first round, and once more to evaluate where a test is wanted, at the same time.

    Raise ScriptRefused where it does not get so far.
    """
    specs = [what.train, *([what.evaluate] if what.evaluate is not None else [])]
    tasks = [asyncio.create_task(_probe(what, each, world, patience)) for each in specs]
    try:
        found = [await each for each in tasks]
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return Checked(found[0], found[1] if len(found) > 1 else None)


async def _probe(what: Check, spec: Spec, world: World, patience: float) -> Verdict | None:
    directory = make_private(what.directory / spec.role)
    task, answer = directory / "spec.json", directory / "verdict.json"
    task.write_text(json.dumps(asdict(spec)))
    outputs = Outputs(directory / "work", [what.directory])
    place = await world.in_thread(outputs.prepare, JOB, spec.role, Path(spec.directory))
    argv = [sys.executable, *SAFE_PATH, "-m", "heliograph.local.probe", str(task), str(answer)]
    launch = f"{world.new_id()}/1"
    environment = {**what.environment, "HELIOGRAPH_EDGE": spec.edge, "HELIOGRAPH_DIRECTORY": str(directory),
                   "PYTHONUNBUFFERED": "1", orphans.VARIABLE: launch}  # fmt: skip
    process: Process = await world.spawn(argv, env=environment, cwd=str(place.directory), before=dying_with_parent())
    try:
        async with asyncio.timeout(patience):
            output = await _output(process)
    except TimeoutError:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        # also children that have left its group: one that has its output open would keep the wait from ending
        await world.in_thread(orphans.end_launched, launch)
        code = await process.wait()
    left_early = Verdict(reason=f"it ended with exit code {code} before its first round")  # by os._exit, say
    verdict = Verdict(**json.loads(answer.read_text())) if answer.exists() else left_early
    if not verdict.passed:
        lines = [line for line in user_lines(output, Path(spec.code)) if line != verdict.reason]
        raise ScriptRefused(_reason(what, spec, verdict, code), lines)
    return verdict


async def _output(process: Process) -> list[str]:
    """Read what a process prints until it has ended; return the last lines."""
    assert process.stdout is not None
    kept = b""
    reading = asyncio.ensure_future(process.stdout.read(65536))
    ended = asyncio.ensure_future(wait_for_exit(process.pid))
    try:
        while True:
            await asyncio.wait((reading, ended), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():  # it has ended, and a child may hold its output open
                await asyncio.wait((reading,), timeout=0.2)
            if not reading.done() or not (piece := reading.result()):
                break
            kept = (kept + piece)[-MAX_OUTPUT:]
            reading = asyncio.ensure_future(process.stdout.read(65536))
    finally:
        reading.cancel()
        ended.cancel()
        await asyncio.gather(reading, ended, return_exceptions=True)
    return kept.decode(errors="replace").splitlines()


def _reason(what: Check, spec: Spec, verdict: Verdict, code: int) -> str:
    """Return one sentence on why a script cannot begin, and what to change."""
    reason = verdict.reason.removeprefix("error: ")
    if code < 0:
        return f"{what.shown} was killed by {described_end(code)} before its first round"
    if "field evaluate: expected a function" in reason:
        return f"{_without_evaluate(what)}, or leave {what.test} out"
    where = ", measuring its model on the test samples" if spec.role == "evaluate" and verdict.began else ""
    return f"{what.shown}{where}: {reason}"


def _without_evaluate(what: Check) -> str:
    found = _call_without_evaluate(Path(what.train.script))
    rest = "where accuracy() measures the model on the samples of dataset() and returns a number or a dict of numbers"
    if found is None:
        return f"{what.shown}: {what.test} wants FederatedLearning(…, evaluate=accuracy), {rest}: add it"
    line, text = found
    given = text[:-1].rstrip(", \n")  # the call, which may end with a comma of its own
    changed = f"{given}{'' if given.endswith('(') else ', '}evaluate=accuracy)"
    return f"{what.shown}, line {line}: {what.test} wants evaluate=: write {changed}, {rest}"


def _call_without_evaluate(script: Path) -> tuple[int, str] | None:
    """Return line and text of the call ``FederatedLearning(…)`` that has no ``evaluate``."""
    source = script.read_text(errors="replace")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and "evaluate" not in [each.arg for each in node.keywords]:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            text = ast.get_source_segment(source, node) if name == "FederatedLearning" else None
            if text is not None and "\n" not in text:
                return node.lineno, text
    return None


def user_lines(output: Sequence[str], code: Path) -> list[str]:
    """Return the output without the frames of a traceback that lie outside the user's code."""
    kept: list[str] = []
    skipping = False
    for line in output:
        if line.startswith('  File "'):
            skipping = not _is_users(Path(line.split('"')[1]), code)
        elif not line.startswith("    "):
            skipping = False
        if not skipping:
            kept.append(line)
    return kept


def _is_users(file: Path, code: Path) -> bool:
    return file.resolve().is_relative_to(code.resolve()) and "site-packages" not in file.parts
