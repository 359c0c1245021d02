"""The world of a component: clock, randomness, ids, threads and processes. A simulation passes a world of its own.

Only this file asks the operating system for any of them.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeVar

from heliograph.core.child_process import RUN
from heliograph.core.errors import HeliographError
from heliograph.core.private_files import make_private
from heliograph.core.telemetry import NO_TELEMETRY, Telemetry
from heliograph.core.text import decode_leniently, say_line

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")


class Process(Protocol):
    """The interface of a started process, a part of ``asyncio.subprocess.Process``."""

    pid: int
    stdout: asyncio.StreamReader | None

    @property
    def returncode(self) -> int | None: ...
    async def wait(self) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


async def _in_thread(function: Callable[..., T], *args: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


async def _in_own_thread(function: Callable[..., T], *args: Any) -> T:
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # a thread ends by itself

    def run() -> None:
        try:
            found = function(*args)
        except BaseException as error:
            result.set_exception(error)
        else:
            result.set_result(found)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(result)


async def _spawn(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: str, before: Callable[[], None] | None = None,
    inherited: Sequence[int] = (),
) -> Process:  # fmt: skip
    variables = {key: value for key, value in os.environ.items() if _inherited(key)} | dict(env)
    if variables.get("PYTHONPATH"):
        variables["PYTHONPATH"] = _absolute(variables["PYTHONPATH"])
    return await asyncio.create_subprocess_exec(
        *argv,
        env=variables,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=before,
        pass_fds=inherited,
        start_new_session=True,
        limit=1 << 20,
    )


def _inherited(variable: str) -> bool:
    """Return whether a process inherits an environment variable: all processes of a machine use its TLS files, or may
    do without, and all of a run end with it."""
    if not variable.startswith("HELIOGRAPH_") or variable.startswith("HELIOGRAPH_TLS_"):
        return True
    return variable in (RUN, "HELIOGRAPH_INSECURE")


def _absolute(path: str) -> str:
    """Return PYTHONPATH for another working directory: its relative entries mean directories below this one."""
    try:
        here = Path.cwd()
    except OSError:  # it has been deleted
        return path
    return os.pathsep.join(str(here / entry) for entry in path.split(os.pathsep))


class DirectoryInUse(HeliographError):
    """Another process has locked a state directory."""


def _lock_directory(state: Path, wait: bool = False) -> IO[str]:
    """Lock a state directory for this process, and make it private. Where another process has locked it, block until
    that ends, or raise DirectoryInUse."""
    lock = (make_private(state) / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise DirectoryInUse(
            f"another agent runs on {state}; give this one a --state directory of its own, or let it --wait"
        ) from None
    except BaseException:
        lock.close()
        raise
    return lock


def _database(path: Path) -> sqlite3.Connection:
    import sqlite3

    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.text_factory = decode_leniently
    return connection


@dataclass(frozen=True)
class World:
    """The clock, randomness, ids, threads, processes and files that a component may use."""

    now: Callable[[], float] = time.time
    """Seconds since 1970, UTC; may jump."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds, never decreasing; only differences have a meaning."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    new_id: Callable[[], str] = lambda: uuid.uuid4().hex
    """32 hexadecimal digits, never the same twice."""
    uid: Callable[[str], str] | None = None
    """In a replay, a recorded id by its key: the uid of a new resource, since the draw of participants depends on it,
    and the lease of a task, since labellers answer with it. None, or an empty result, means a new id."""
    new_secret: Callable[[], bytes] = lambda: os.urandom(32)
    rng: random.Random = field(default_factory=random.Random)
    in_thread: Callable[..., Awaitable[Any]] = _in_thread
    """Run a blocking function in a thread: ``await in_thread(function, *args)``."""
    in_own_thread: Callable[..., Awaitable[Any]] = _in_own_thread
    """The same in a thread of its own, for a function that may wait for long: the threads of ``in_thread`` are few."""
    spawn: Callable[..., Awaitable[Process]] = _spawn
    """Start a process: ``await spawn(argv, env=..., cwd=..., before=..., inherited=...)``. It inherits the environment
    without the variables ``HELIOGRAPH_…``, except ``HELIOGRAPH_TLS_…`` and that of its run; ``env`` is added, and
    relative entries of PYTHONPATH become absolute. It inherits the file descriptors ``inherited``."""

    transport: Callable[..., Any] | None = None
    """In a simulation, the function ``transport(url, root, world, name, inbox)`` that makes a ``Bus``. None means that
    the URL's scheme selects the transport."""
    lock_directory: Callable[..., Any] = _lock_directory
    """Lock a state directory for this process until the result is closed: ``lock_directory(state, wait)``. Where
    another process has locked it, raise DirectoryInUse, or block until that ends."""
    database: Callable[[Path], sqlite3.Connection] = _database
    """Open an SQLite file in autocommit mode. A text that is damaged on the disk reads with U+FFFD in it."""
    telemetry: Telemetry = NO_TELEMETRY
    """The recorder of measurements; the default records none. See ``core.telemetry``."""
    say: Callable[[str], None] = say_line
    """Print a line of a worker's log."""

    @property
    def boot(self) -> str:
        """Identity of the machine's boot; empty where the system has none, and in a simulation."""
        return _boot_id() if self.monotonic is time.monotonic else ""

    def clock_base(self) -> float:
        """Return what the clock says of when the machine was started, in seconds since 1970: the same until somebody
        sets the clock."""
        since = _since_boot() if self.monotonic is time.monotonic else self.monotonic()
        return self.now() - since

    def new_uid(self, key: str) -> str:
        """Return the uid of a new resource with the key ``<plural>.<name>``, or of a lease."""
        return (self.uid(key) if self.uid is not None else "") or self.new_id()

    def timestamp(self) -> str:
        """Return the present time as RFC 3339 in UTC, with microseconds."""
        return rfc3339(self.now())


def _since_boot() -> float:
    """Return the seconds since the boot, those in which the machine slept too."""
    return time.clock_gettime(_SINCE_BOOT)


_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@lru_cache(maxsize=1)
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()[:64]
    except (OSError, ValueError):
        return ""


def rfc3339(seconds: float) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC."""
    whole, microseconds = divmod(round(seconds * 1e6), 1_000_000)
    return f"{_second(whole)}.{microseconds:06d}Z"


@lru_cache(maxsize=16)  # many events are of the same second
def _second(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).isoformat().removesuffix("+00:00")


Random = random.Random
"""A seeded source of draws, for the signatures of pure functions."""


def seeded(seed: str | int) -> Random:
    """Return a generator whose sequence depends on ``seed`` alone, the same on every machine."""
    return random.Random(f"heliograph/{seed}")
