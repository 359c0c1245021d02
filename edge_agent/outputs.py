"""The directories in which a node's scripts run: each worker has its own, ``<outputs>/<job>/<worker>``, so that the
outputs of two workers do not collide. Beside it ``<worker>.log`` has the lines that the worker printed.

A worker finds the files of its script's working directory there by their relative names, as ``python train.py`` does.
At its end what the script has not written is taken away again, so that its outputs are left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from heliograph.core.errors import HeliographError
from heliograph.core.names import is_label
from heliograph.core.private_files import make_private
from heliograph.core.world import World

MAX_ENTRIES = 1024
"""Files and directories that a worker's directory is filled with, at most. A directory of more is linked as a whole."""
MAX_LISTED = 65536
"""Entries of a directory that are looked at, at most."""
SMALL = 4 << 20
"""Bytes of a file that is copied; a larger one is linked."""
COPIED = 64 << 20
"""Bytes of small files that are copied for one worker, at most."""
MODELS_COPIED = 1 << 30
"""Bytes of files of models that are copied for one worker, at most."""
FREE_SHARE = 16
"""A worker's copies take at most this part of the free disk."""
MODEL_SUFFIXES = frozenset({
    ".bin", ".ckpt", ".h5", ".hdf5", ".joblib", ".keras", ".npz", ".onnx", ".pickle", ".pkl", ".pt", ".pth",
    ".safetensors",
})  # fmt: skip
"""Suffixes of files that training scripts write again: a link would let all workers write to the same file."""
LOG_BYTES = 64 << 20
"""Size of a worker's log, at most."""
_LEFT_OUT = frozenset({"__pycache__", "heliograph-runs"})


class Outputs:
    """The directories of one node's workers.

    Args:
        directory: the directory below which they lie; its user alone may enter it.
        private: directories that are never laid into a worker's directory, such as the agent's state.
        packages: the directory below a private one whose directories are laid even so: packages of code.
    """

    def __init__(self, directory: Path, private: Collection[Path] = (), packages: Path | None = None) -> None:
        self._directory = directory
        self._packages = packages.resolve() if packages is not None else None
        self._private = frozenset(path.resolve() for path in (directory, *private))

    def prepare(self, job: str, worker: str, source: Path) -> WorkingPlace:
        """Make a worker's directory, and fill it with the files of ``source``. Blocks for as long as it copies.

        Raises HeliographError where the directory cannot be made.
        """
        if not (is_label(job) and is_label(worker)):
            raise HeliographError(f"job {job!r}, worker {worker!r}: no names of directories")
        is_package = self._packages is not None and self._packages in source.parents
        if not is_package and any(source.is_relative_to(private) for private in self._private):
            raise HeliographError(f"{source} holds what the agent keeps; it is no working directory")
        try:
            parent = make_private(make_private(self._directory) / job)
            place = WorkingPlace(parent / worker, parent / f"{worker}.log")
            _make_directory(place.directory)
            _Filling(place, self._private).fill(source)
        except OSError as error:
            raise HeliographError(f"{self._directory}: {error.strerror or error}") from None
        return place


@dataclass
class _Laid:
    """A file or directory that was laid into a worker's directory.

    Attributes:
        identity: device and number: the same path may lead elsewhere by the worker's end.
        content: size and time; of a link those of its target.
    """

    identity: tuple[int, int]
    content: tuple[int, int] = (0, 0)
    link: str = ""


@dataclass
class WorkingPlace:
    """A worker's directory, filled.

    Attributes:
        log: file beside it for the lines that the worker prints.
        notes: lines about files that are not there as in the script's working directory.
    """

    directory: Path
    log: Path
    notes: list[str] = field(default_factory=list)
    laid: dict[Path, _Laid] = field(default_factory=dict)
    directories: dict[Path, _Laid] = field(default_factory=dict)

    def clear(self) -> list[str]:
        """Take away what the script has not written. Return lines about files that it wrote through a link.

        Blocks. The directory goes too where nothing is left in it.
        """
        notes = []
        for path, laid in self.laid.items():
            with contextlib.suppress(OSError):
                now = path.lstat()
                if _identity(now) != laid.identity or (not laid.link and _content(now) != laid.content):
                    continue
                if laid.link and _content_behind(path) != laid.content:
                    notes.append(f"{path.name} was written through a link to {laid.link}, which all workers share")
                path.unlink()
        for directory, laid in reversed(self.directories.items()):
            with contextlib.suppress(OSError):
                if _identity(directory.lstat()) == laid.identity:
                    shutil.rmtree(directory / "__pycache__", ignore_errors=True)  # the interpreter's, not the script's
                    directory.rmdir()
        return notes


class _Filling:
    """Fills one worker's directory. Never overwrites and never follows what an earlier script has left in it."""

    def __init__(self, place: WorkingPlace, private: Collection[Path]) -> None:
        self._place = place
        self._private = private
        self._entries = MAX_ENTRIES
        free = shutil.disk_usage(place.directory).free // FREE_SHARE
        self._small, self._models = min(COPIED, free), min(MODELS_COPIED, free)

    def fill(self, source: Path) -> None:
        self._is_ours(self._place.directory)
        waiting = deque([(source, self._place.directory)])  # level by level: what lies near is there, whatever is below
        first = True
        while waiting:
            here, there = waiting.popleft()
            entries, complete = _listed(here, self._entries)
            if not first and not complete:
                self._link(here, there)
                continue
            if not complete:
                self._place.notes.append(
                    f"{here} has more than {MAX_ENTRIES} entries: the script finds {len(entries)} of them by relative "
                    "names"
                )
            if not first and not self._made(there):
                continue
            first = False
            self._entries -= len(entries)
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if Path(entry.path) not in self._private:
                        waiting.append((Path(entry.path), there / entry.name))
                else:
                    self._lay(entry, there / entry.name)

    def _made(self, there: Path) -> bool:
        """Make a directory. Return whether it may be filled."""
        try:
            with contextlib.suppress(FileExistsError):
                there.mkdir(mode=0o700)
            return self._is_ours(there)
        except OSError:
            return False

    def _is_ours(self, directory: Path) -> bool:
        """Note a directory to be taken away. Return False where it is none: an earlier script's link, say."""
        seen = directory.lstat()
        if stat.S_ISDIR(seen.st_mode):
            self._place.directories[directory] = _Laid(_identity(seen))
        return directory in self._place.directories

    def _lay(self, entry: os.DirEntry[str], there: Path) -> None:
        try:
            seen = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(seen.st_mode):
                self._link(Path(entry.path), there)  # never followed: what it leads to may lie outside the code root
            elif stat.S_ISREG(seen.st_mode):
                if not self._may_copy(seen.st_size, there.suffix):
                    self._link(Path(entry.path), there)
                elif _copied(Path(entry.path), there) or _content(there.lstat()) == _content(seen):
                    now = there.lstat()  # a copy, or one that was left by an agent that was killed
                    self._place.laid[there] = _Laid(_identity(now), _content(now))
        except OSError as error:
            self._place.notes.append(f"{entry.path} is left out: {error.strerror or error}")

    def _may_copy(self, size: int, suffix: str) -> bool:
        """Return whether a file of that size is copied, and take its size from what may be copied."""
        if size <= min(SMALL, self._small):
            self._small -= size
            return True
        if suffix.lower() in MODEL_SUFFIXES and size <= self._models:
            self._models -= size
            return True
        return False

    def _link(self, source: Path, there: Path) -> None:
        target = str(source)
        try:
            there.symlink_to(target)
        except FileExistsError:
            if not _is_link_to(there, target):
                return
        self._place.laid[there] = _Laid(_identity(there.lstat()), _content_behind(there), target)


class LogFile:
    """A worker's log, bounded; what cannot be written is dropped.

    Args:
        heading: a line that stands between the log of an earlier start and this one.
    """

    def __init__(self, file: Path, heading: str) -> None:
        self._file = -1
        with contextlib.suppress(OSError):
            self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._left = LOG_BYTES - (os.fstat(self._file).st_size if self._file >= 0 else LOG_BYTES)
        if 0 < self._left < LOG_BYTES:
            self.add(heading)

    def add(self, line: str) -> None:
        if self._left <= 0:
            return
        text = f"{line}\n".encode(errors="replace")
        self._left -= len(text)
        if self._left <= 0:
            text = f"(this log ends at {LOG_BYTES >> 20} MiB)\n".encode()
        with contextlib.suppress(OSError):
            os.write(self._file, text)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self._left = -1, 0


async def logged_lines(place: WorkingPlace, lines: AsyncIterator[str], world: World) -> AsyncIterator[str]:
    """Yield a worker's lines, and write them to its log. At the end take away what the script has not written."""
    log = LogFile(place.log, f"(started again at {world.timestamp()})")
    try:
        for note in place.notes:
            log.add(note)
            yield note
        async for line in lines:
            log.add(line)
            yield line
    finally:
        log.close()
    for note in await world.in_thread(place.clear):
        yield note


def _listed(directory: Path, most: int) -> tuple[list[os.DirEntry[str]], bool]:
    """Return a directory's entries by name, at most ``most``, and whether these are all; without hidden ones."""
    found: list[os.DirEntry[str]] = []
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for number, entry in enumerate(entries):
            if number >= MAX_LISTED:
                break
            if not entry.name.startswith(".") and entry.name not in _LEFT_OUT:
                found.append(entry)
    found.sort(key=lambda entry: entry.name)
    return found[:most], len(found) <= most


def _make_directory(directory: Path) -> None:
    """Make a directory that its user alone may enter; one that exists is none that leads elsewhere."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    if not stat.S_ISDIR(os.lstat(directory).st_mode):
        raise HeliographError(f"{directory} is no directory; move it away")


def _copied(source: Path, target: Path) -> bool:
    """Copy a file with its time. Return False where the target exists. Raise OSError."""
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        seen = os.fstat(reading)
        mode = 0o600 | (seen.st_mode & 0o100)
        try:
            writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        except FileExistsError:
            return False
        try:
            with os.fdopen(writing, "wb") as copy:
                for block in _blocks(reading, seen.st_size):
                    copy.write(block)
            os.utime(target, ns=(seen.st_atime_ns, seen.st_mtime_ns), follow_symlinks=False)
        except OSError:
            target.unlink()  # better no file than half of one
            raise
    finally:
        os.close(reading)
    return True


def _blocks(file: int, size: int) -> Iterator[bytes]:
    """Yield a file's bytes, no more than it had when it was looked at."""
    while size > 0 and (block := os.read(file, min(size, 1 << 20))):
        size -= len(block)
        yield block


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _content(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _content_behind(link: Path) -> tuple[int, int]:
    """Return the content of a link's target; zeros where it leads nowhere."""
    try:
        return _content(link.stat())
    except OSError:
        return 0, 0


def _is_link_to(path: Path, target: str) -> bool:
    try:
        return str(path.readlink()) == target
    except OSError:
        return False
