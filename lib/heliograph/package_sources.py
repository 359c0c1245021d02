"""The files that become a package of code: those of a folder, or of any zip.

Left out are hidden files, ``__pycache__``, ``__MACOSX`` and ``heliograph-runs``. Links are refused and never followed:
what they lead to may lie elsewhere, or be another thing on another node.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from pathlib import Path
from typing import NoReturn

from heliograph.bus.contract.package_file import Content
from heliograph.core.errors import Refused
from heliograph.core.package_paths import MAX_FILES, MAX_SIZE, PATH_RULE, is_left_out, is_path

_MAX_LISTED = 65536
"""Entries of a folder or a zip that are looked at, at most, those that are left out too."""
_MAX_DIRECTORY = 16 << 20
"""Bytes of a zip's list of files, at most: Python's reader takes some ten times as much memory."""
_END = struct.Struct("<4s4H2LH")
_MAX_COMMENT = 65535
_SMALLER = "Keep data and models out of the package; jobs bring them by name."


class Source:
    """The files of a folder or a zip.

    Attributes:
        files: by their path in the package.
        left_out: paths that the package does not have.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.files: dict[str, Content] = {}
        self.left_out: list[str] = []
        self._bytes = 0

    def takes(self, name: str) -> bool:
        """Return whether a path becomes a part of the package; note one that does not. Raise Refused for none."""
        parts = name.split("/")
        if ".." not in parts and "." not in parts and any(is_left_out(part) for part in parts):
            self.left_out.append(name)
            return False
        if not is_path(name):
            self.refuse(PATH_RULE, name)
        return True

    def make_room(self, size: int, name: str) -> None:
        """Raise Refused where the package would grow too large with another file."""
        self._bytes += size
        if self._bytes > MAX_SIZE:
            self.refuse(f"at most {MAX_SIZE} bytes in all", f"more, with {name}", _SMALLER)
        if len(self.files) >= MAX_FILES:
            self.refuse(f"at most {MAX_FILES} files", "more", _SMALLER)

    def add(self, name: str, content: Content) -> None:
        if name in self.files:
            self.refuse("each path once", name)
        self.files[name] = content

    def refuse(self, expected: str, got: object, hint: str = "") -> NoReturn:
        raise Refused("bad-package", topic=str(self.place), expected=expected, got=got, hint=hint)


def read_source(place: Path) -> Source:
    """Return the files of a folder or a zip. Raise Refused where a package cannot have them, OSError where they cannot
    be read."""
    source = Source(place)
    if place.is_dir():
        _read_folder(source)
    else:
        _read_zip(source)
    return source


def _read_folder(source: Source) -> None:
    listed = 0
    waiting = [(source.place, "")]
    while waiting:
        directory, prefix = waiting.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                listed += 1
                if listed > _MAX_LISTED:
                    source.refuse(f"at most {_MAX_LISTED} entries in the folder", "more", _SMALLER)
                name = f"{prefix}{entry.name}"
                if not source.takes(name):
                    continue
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    waiting.append((Path(entry.path), f"{name}/"))
                elif stat.S_ISREG(mode):
                    source.add(name, _content_of(source, Path(entry.path), name))
                else:
                    what = "a symbolic link" if stat.S_ISLNK(mode) else "neither file nor directory"
                    source.refuse("files and directories", f"{name}, which is {what}",
                                  "Put a copy in its place." if stat.S_ISLNK(mode) else "")  # fmt: skip


def _content_of(source: Source, file: Path, name: str) -> Content:
    reading = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(reading, "rb") as opened:
        seen = os.fstat(reading)
        source.make_room(seen.st_size, name)
        data = opened.read(seen.st_size + 1)
        if len(data) != seen.st_size:
            source.refuse("files that stay as they are while they are packed", name)
    return Content(data, bool(seen.st_mode & 0o100))


def _read_zip(source: Source) -> None:
    """Read a zip that may come from anywhere: no size that it states is believed before the bytes are there."""
    import zipfile

    _check_directory(source)
    try:
        with zipfile.ZipFile(source.place) as archive:
            if len(archive.infolist()) > _MAX_LISTED:
                source.refuse(f"at most {_MAX_LISTED} entries in the zip", "more", _SMALLER)
            for info in archive.infolist():
                name, mode = info.filename, info.external_attr >> 16
                if "\0" in info.orig_filename:
                    source.refuse(PATH_RULE, info.orig_filename)
                if not source.takes(name.removesuffix("/")) or info.is_dir():
                    continue
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                    what = "a symbolic link" if stat.S_ISLNK(mode) else "no plain file"
                    source.refuse("plain files in the zip", f"{name}, which is {what}")
                if info.flag_bits & 1:
                    source.refuse("a zip without a password", name)
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    source.refuse("stored or deflated files", f"{name}, method {info.compress_type}", "Zip it again.")
                source.make_room(info.file_size, name)
                with archive.open(info) as opened:
                    data = opened.read(info.file_size + 1)
                if len(data) != info.file_size:
                    source.refuse(f"{info.file_size} bytes in {name}, as the zip states", f"{len(data)} bytes")
                source.add(name, Content(data, bool(mode & 0o100)))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, ValueError) as error:
        source.refuse("a folder, or a zip that can be read", str(error) or type(error).__name__)


def _check_directory(source: Source) -> None:
    """Raise Refused for a zip whose list of files is too large to read, before it is read."""
    with source.place.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END.size - _MAX_COMMENT))
        tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) - place < _END.size:
        source.refuse("a folder, or a zip", "another file")
    *_, length, _, _ = _END.unpack_from(tail, place)
    if b"PK\6\7" in tail[:place][-20:] or length > _MAX_DIRECTORY:
        source.refuse(f"a zip with at most {_MAX_DIRECTORY >> 20} MB of names", "more, or a zip64", _SMALLER)
