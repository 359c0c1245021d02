"""A regular file, opened without waiting on pipes, and unpacked where it is a gz or a zip of one file."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Literal, cast, get_args

from heliograph.bus.contract.resources.dataset import Format
from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.npy_header import MAGIC as NPY
from heliograph.edge_agent.datasets.npz_file import DAMAGE, ZIP, check_member, open_zip
from heliograph.edge_agent.datasets.unusable import Unusable

FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {
    ".npz": "npz", ".npy": "npy", ".parquet": "parquet", ".pq": "parquet", ".json": "coco",
    ".tar": "webdataset", ".tgz": "webdataset",
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".tab": "csv", ".data": "csv", ".dat": "csv",
}  # fmt: skip
PARQUET = b"PAR1"
GZ = b"\x1f\x8b"
EMPTY_ZIP = b"PK\5\6"
MAGICS: dict[bytes, Format] = {ZIP: "npz", EMPTY_ZIP: "npz", NPY[:4]: "npy", PARQUET: "parquet"}
STEP = 4 << 20
"""Bytes read between two reports of progress."""
MAX_UNPACKED = 1 << 40
"""Bytes that a packed file may hold: a bomb ends, however small the file is."""

Progress = Callable[[int], None]
"""Called with the bytes that have been read; may raise Interrupted."""


@dataclass
class Source:
    """An open data file.

    Attributes:
        file: the file as it lies on the disk, seekable.
        packing: how its content is packed: in a gz, in a zip as its only file, or not at all.
        name: file name of the content; its suffix tells the format.
    """

    path: Path
    file: BinaryIO
    size: int
    packing: Literal["", "gz", "zip"]
    name: str
    member: zipfile.ZipInfo | None = None

    def open(self) -> BinaryIO:
        """Return a stream over the content from its start. Use one at a time."""
        self.file.seek(0)
        if self.packing == "gz":
            return io.BufferedReader(_Bounded(cast(IO[bytes], gzip.GzipFile(fileobj=self.file))), 1 << 20)
        if self.member is not None:
            try:
                member = open_zip(self.file, self.size).open(self.member)
            except (zipfile.BadZipFile, *DAMAGE) as error:
                raise Unusable(f"is truncated or damaged ({shorten(str(error))}); copy it again") from None
            return io.BufferedReader(_Bounded(member), 1 << 20)
        return self.file

    @property
    def content_size(self) -> int:
        """Return the bytes of the content; of a gz the most that its last block tells."""
        return self.member.file_size if self.member is not None else self.size

    @property
    def magic(self) -> Format | None:
        """Return the format that the content's first bytes tell."""
        return MAGICS.get(self.open().read(4))

    @property
    def format(self) -> Format | None:
        """Return the format that content or name tell."""
        return self.magic or SUFFIXES.get(PurePosixPath(self.name).suffix.lower())


@contextmanager
def open_source(path: Path, progress: Progress | None = None) -> Iterator[Source]:
    """Open a file. Raise Unusable if it is no regular file, is empty or a zip of several files; OSError as ``open``."""
    raw = _Watched(path, progress)
    found = os.fstat(raw.fileno())
    with io.BufferedReader(raw, min(1 << 20, max(found.st_size, 1 << 12))) as file:
        if not stat.S_ISREG(found.st_mode):
            raise Unusable("is not a regular file; name a file of data or a directory")
        if found.st_size == 0:
            raise Unusable("is empty; write the data set again")
        start = file.read(4)
        if start[:2] == GZ:
            yield Source(path, file, found.st_size, "gz", path.stem if path.suffix.lower() == ".gz" else path.name)
        elif (
            start == ZIP and path.suffix.lower() != ".npz"
            and (member := _only_member(file, found.st_size)) is not None
        ):  # fmt: skip
            yield Source(path, file, found.st_size, "zip", member.filename, member)
        else:
            yield Source(path, file, found.st_size, "", path.name)


def _only_member(file: BinaryIO, size: int) -> zipfile.ZipInfo | None:
    """Return the one file that a zip packs; None where it holds arrays, as an npz does."""
    members = [
        each for each in open_zip(file, size).infolist()
        if not each.is_dir() and not each.filename.startswith("__MACOSX/")
        and not PurePosixPath(each.filename).name.startswith(".")
    ]  # fmt: skip
    if any(each.filename.endswith(".npy") for each in members):
        return None
    if len(members) != 1:
        raise Unusable(f"is a zip of {len(members)} files, none an .npy array; unpack it and name the directory")
    if members[0].filename.lower().endswith((".npz", ".parquet", ".pq", ".gz", ".zip")):
        raise Unusable(f"is a zip of {shorten(members[0].filename)!r}, which is packed already; unpack it")
    check_member(members[0], shorten(members[0].filename))
    return members[0]


class _Watched(io.FileIO):
    """A file that reports how much of it has been read."""

    def __init__(self, path: Path, progress: Progress | None) -> None:
        # without O_NONBLOCK, opening a named pipe would wait for ever
        super().__init__(path, opener=lambda file, flags: os.open(file, flags | os.O_NONBLOCK))
        self._progress = progress
        self._read = 0

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        before, self._read = self._read, self._read + count
        if self._progress is not None and before // STEP != self._read // STEP:
            self._progress(self._read)
        return count


class _Bounded(io.RawIOBase):
    """A stream of unpacked bytes that ends a bomb, and tells damage as ``Unusable``."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (OSError, EOFError, zipfile.BadZipFile, *DAMAGE) as error:
            raise Unusable(f"is truncated or damaged ({shorten(str(error))}); copy it again") from None
        self._read += len(data)
        if self._read > MAX_UNPACKED:
            raise Unusable(f"unpacks to more than {MAX_UNPACKED >> 30} GiB; unpack it yourself and name the result")
        buffer[: len(data)] = data
        return len(data)
