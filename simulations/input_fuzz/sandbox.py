"""A child process that reads inputs within bounds of CPU time and memory. If it hangs or ends, another one takes over.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import resource
import signal
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

from heliograph.core.errors import HeliographError
from heliograph.simulations.input_fuzz.catalog import target_of
from heliograph.simulations.input_fuzz.target import Target

PATIENCE = 50
"""Real seconds for each CPU second that a target may take: the machine may be loaded."""
LEAST_PATIENCE = 30.0


@dataclass(frozen=True)
class Fault:
    """A read that neither returned nor raised HeliographError.

    Attributes:
        kind: the error's type and place, equal for two inputs with the same fault.
        text: the whole report.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """The outcome of a read: ``fault``, or whether the input was ``accepted``."""

    accepted: bool
    fault: Fault | None = None


class Sandbox:
    """A context manager around the child."""

    def __init__(self) -> None:
        self._child: multiprocessing.process.BaseProcess | None = None
        self._ours: Connection | None = None

    def read(self, target: str, data: bytes) -> Verdict:
        """Let the child read an input of a target."""
        pipe = self._pipe()
        try:
            pipe.send((target, data))
            if not pipe.poll(max(LEAST_PATIENCE, target_of(target).seconds * PATIENCE)):
                return self._lost(f"{target} hangs", "it hangs, and does not react to a signal")
            found: Verdict = pipe.recv()
            return found
        except (EOFError, OSError):
            child = self._child
            assert child is not None
            child.join(5)
            return self._lost(f"{target} ends the process", f"the process ended with exit code {child.exitcode}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _pipe(self) -> Connection:
        if self._ours is None:
            context = multiprocessing.get_context("spawn")
            self._ours, theirs = context.Pipe()
            self._child = context.Process(target=_serve, args=(theirs,), daemon=True)
            self._child.start()
            theirs.close()
            self._ours.recv()  # it has imported everything
        return self._ours

    def _lost(self, kind: str, text: str) -> Verdict:
        self._end()
        return Verdict(False, Fault(kind, text))

    def _end(self) -> None:
        if self._ours is not None:
            self._ours.close()
        if self._child is not None:
            self._child.kill()
            self._child.join()
        self._ours = self._child = None


class _TooSlow(BaseException):
    """A read took too long. No reader catches it."""


def _serve(pipe: Connection) -> None:
    """Say that this process is ready, and read inputs until the other end closes the pipe."""
    signal.signal(signal.SIGPROF, _too_slow)
    memory = Path("/dev/shm")  # a disk would make each journal wait
    where = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="heliograph-fuzz-", dir=where) as place:
        with contextlib.suppress(EOFError, OSError):
            pipe.send("ready")
            while True:
                name, data = pipe.recv()
                pipe.send(_verdict(target_of(name), data, Path(place)))


def _verdict(target: Target, data: bytes, scratch: Path) -> Verdict:
    try:
        with _bounded(target):
            target.read(data, scratch)
        return Verdict(True)
    except HeliographError as error:
        return _whole(error)
    except _TooSlow as error:
        return Verdict(False, _fault(error, f"it takes more than {target.seconds:g} s of CPU time"))
    except MemoryError as error:
        gc.collect()
        return Verdict(False, _fault(error, f"it takes more than {target.memory} bytes"))
    except Exception as error:
        return Verdict(False, _fault(error, "".join(traceback.format_exception(error))[-4000:]))


def _whole(error: HeliographError) -> Verdict:
    """Return the verdict on a refusal: people and programs can read it."""
    try:
        str(error).encode()
    except UnicodeEncodeError as wrong:
        return Verdict(False, _fault(wrong, f"a refusal that no stream can carry: {error!r}"))
    return Verdict(False)


def _fault(error: BaseException, text: str) -> Fault:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "heliograph" in frame.filename or "/targets/" in frame.filename] or frames
    place = f"{'/'.join(ours[-1].filename.split('/')[-2:])} {ours[-1].name}" if ours else "nowhere"
    return Fault(f"{type(error).__name__} in {place}", text)


@contextlib.contextmanager
def _bounded(target: Target) -> Iterator[None]:
    """Bound the memory and the CPU time of the body."""
    most = _present_memory() + target.memory
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    signal.setitimer(signal.ITIMER_PROF, target.seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _present_memory() -> int:
    """Return the bytes of this process's address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _too_slow(number: int, frame: FrameType | None) -> NoReturn:
    raise _TooSlow
