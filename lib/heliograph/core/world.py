"""The world a component lives in: clock, randomness, ids, threads and processes, handed in so that a simulation can
hand in others. This is the only file that asks the operating system for any of them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeVar

from heliograph.core.errors import HeliographError
from heliograph.core.telemetry import NO_TELEMETRY, Telemetry

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")


class Process(Protocol):
    """A started process, as ``asyncio.subprocess.Process`` has it."""

    pid: int
    stdout: asyncio.StreamReader | None

    @property
    def returncode(self) -> int | None: ...
    async def wait(self) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


async def _in_thread(function: Callable[..., T], *args: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


async def _spawn(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: str, before: Callable[[], None] | None = None
) -> Process:
    return await asyncio.create_subprocess_exec(
        *argv,
        env={key: value for key, value in os.environ.items() if _inherited(key)} | dict(env),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=before,
        start_new_session=True,
        limit=1 << 20,
    )


def _inherited(variable: str) -> bool:
    """The TLS files are the machine's, and each of its processes connects by them."""
    return not variable.startswith("HELIOGRAPH_") or variable.startswith("HELIOGRAPH_TLS_")


def _hold(state: Path) -> IO[str]:
    """Holds a directory for this process. Raises HeliographError where another process has it."""
    state.mkdir(parents=True, exist_ok=True)
    lock = (state / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise HeliographError(f"another agent runs on {state}; give this one a --state directory of its own") from None
    return lock


def _database(path: Path) -> sqlite3.Connection:
    import sqlite3

    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _say(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True)
class World:
    """Everything outside that a component may ask of its surroundings."""

    now: Callable[[], float] = time.time
    """Seconds since 1970, UTC; may jump."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds, never backwards; only differences mean anything."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    new_id: Callable[[], str] = lambda: uuid.uuid4().hex
    """32 hexadecimal digits, never the same twice."""
    uid: Callable[[str], str] | None = None
    """In a replay, the uid that the new resource of that key had when it was recorded: the draw of participants, say,
    goes by it. None, or an empty answer: a new id."""
    new_secret: Callable[[], bytes] = lambda: os.urandom(32)
    rng: random.Random = field(default_factory=random.Random)
    in_thread: Callable[..., Awaitable[Any]] = _in_thread
    """Runs a blocking function away from the event loop."""
    spawn: Callable[..., Awaitable[Process]] = _spawn
    """Starts a process: ``await spawn(argv, env=..., cwd=..., before=...)``. It inherits the environment but for what
    is Heliograph's, other than ``HELIOGRAPH_TLS_…``; ``env`` comes on top."""

    transport: Callable[..., Any] | None = None
    """In a simulation, what connects to a URL: ``transport(url, root, world, name, inbox)`` gives a ``Bus``. None: the
    URL's scheme tells."""
    hold: Callable[[Path], Any] = _hold
    """Takes a state directory for one process alone, until what it returns is closed."""
    database: Callable[[Path], sqlite3.Connection] = _database
    """Opens an SQLite file, in autocommit mode."""
    telemetry: Telemetry = NO_TELEMETRY
    """Takes what is measured; by default nothing does. See ``core.telemetry``."""
    say: Callable[[str], None] = _say
    """A line of a worker's log."""

    def new_uid(self, key: str) -> str:
        """The uid of a new resource, whose key is ``<plural>.<name>``."""
        return (self.uid(key) if self.uid is not None else "") or self.new_id()

    def timestamp(self) -> str:
        """The present as RFC 3339 in UTC, with microseconds."""
        return rfc3339(self.now())


def rfc3339(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC."""
    whole, microseconds = divmod(round(seconds * 1e6), 1_000_000)
    return f"{_second(whole)}.{microseconds:06d}Z"


@lru_cache(maxsize=16)
def _second(whole: int) -> str:
    """Each event has a time, and many are of the same second."""
    return datetime.fromtimestamp(whole, UTC).isoformat().removesuffix("+00:00")


def seeded(seed: str | int) -> random.Random:
    """A generator whose sequence is fixed by ``seed``, the same on every machine."""
    return random.Random(f"heliograph/{seed}")
