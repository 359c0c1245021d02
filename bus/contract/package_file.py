"""Packages of code as files: a zip in one form alone, so that the same files have the same digest wherever they are
packed.

Form (PKWARE APPNOTE 6.3): the files sorted by name, stored without compression, dated 1980-01-01, readable by all,
executable where the source is; no directories, extra fields, comments, gaps, or bytes before or behind. Whatever
differs in one byte is refused. So a package has exactly the files that a reader of its list sees, and none is larger
than its part of the package: there is nothing to decompress, to overlap or to follow.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from heliograph.bus.contract.resources import refusal_of
from heliograph.bus.contract.resources.algorithm import PackageManifest
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import Refused
from heliograph.core.package_paths import MANIFEST, MAX_FILES, MAX_NAME, MAX_SIZE, PATH_RULE, collision, is_path

MAX_MANIFEST = 64 << 10
"""Bytes of a manifest, at most."""
_BLOCK = 1 << 20
_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_MAX_DIRECTORY = MAX_FILES * (_ENTRY.size + MAX_NAME)
_VERSION, _UTF_8, _STORED, _TIME, _DATE = 20, 0x800, 0, 0, 0x21
_MADE_ON_UNIX = 3 << 8 | _VERSION
_PLAIN, _EXECUTABLE = stat.S_IFREG | 0o644, stat.S_IFREG | 0o755


@dataclass(frozen=True, slots=True)
class Content:
    """A file to pack."""

    data: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file in a package: ``offset`` is that of its header."""

    name: str
    size: int
    crc: int
    executable: bool
    offset: int

    @property
    def begin(self) -> int:
        """Offset of its bytes."""
        return self.offset + _LOCAL.size + len(self.name.encode())


def write_package(files: Mapping[str, Content], target: BinaryIO) -> None:
    """Write a package. Raise Refused where it would be none: too large, or a name that no package has."""
    if wrong := next((name for name in files if not is_path(name)), None):
        raise _refused("the package", PATH_RULE, wrong)
    packed: list[PackedFile] = []
    offset = 0
    for name in sorted(files, key=str.encode):
        content = files[name]
        packed.append(PackedFile(name, len(content.data), zlib.crc32(content.data), content.executable, offset))
        offset = packed[-1].begin + len(content.data)
    _check_files(packed, "the package")
    directory = b"".join(map(_entry, packed))
    size = offset + len(directory) + _END.size
    if size > MAX_SIZE:
        raise _refused("the package", f"at most {MAX_SIZE} bytes", f"{size} bytes")
    for each in packed:
        target.write(_header(each))
        target.write(files[each.name].data)
    target.write(directory + _end(len(packed), len(directory), offset))


def read_package(file: BinaryIO, name: str) -> tuple[list[PackedFile], PackageManifest]:
    """Return the files of a package and its manifest. Raise Refused, naming the package, where it is none.

    The contents are not read, except that of the manifest; ``unpack`` checks them.
    """
    size = file.seek(0, os.SEEK_END)
    if size > MAX_SIZE:
        raise _refused(name, f"a package of at most {MAX_SIZE} bytes", f"{size} bytes")
    count, length, start = _read_end(file, size, name)
    file.seek(start)
    directory = file.read(length)
    files = list(_entries(directory, name))
    if len(files) != count:
        raise _refused(name, f"{count} files, as its end says", f"{len(files)} files")
    _check_files(files, name)
    place = 0
    for each in files:
        header = _header(each)
        file.seek(each.offset)
        if each.offset != place or file.read(len(header)) != header:
            raise _refused(name, f"the header of {each.name} at byte {place}, as the list of files says", "another")
        place = each.begin + each.size
    if place != start:
        raise _refused(name, f"the list of files at byte {place}, behind the last file", f"byte {start}")
    if directory != b"".join(map(_entry, files)):
        raise _refused(name, "a zip as 'heliograph algorithms pack' writes it: stored, without dates, links and extras",
                       "another form")  # fmt: skip
    return files, _manifest(file, files, name)


def check_digest(file: BinaryIO, ref: WeightsRef, name: str) -> None:
    """Raise Refused unless a file has the size and the digest of a reference."""
    if (size := file.seek(0, os.SEEK_END)) != ref.size:
        raise _refused(name, f"{ref.size} bytes, as declared", f"{size} bytes")
    file.seek(0)
    if (digest := hashlib.file_digest(file, "sha256").hexdigest()) != ref.digest:  # type: ignore[arg-type]
        raise _refused(name, f"a SHA-256 of {ref.digest}", digest)


def check_contents(file: BinaryIO, files: list[PackedFile], name: str) -> None:
    """Raise Refused where the bytes of a packed file are damaged."""
    for each in files:
        for _ in _blocks(file, each, name):
            pass


def unpack(file: BinaryIO, files: list[PackedFile], directory: Path, name: str) -> None:
    """Write the files of a package below an empty directory, for the reader of their user alone.

    Raise Refused where a file's bytes are damaged.
    """
    for each in files:
        target = directory / each.name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = 0o500 if each.executable else 0o400
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(writing, "wb") as copy:
            for block in _blocks(file, each, name):
                copy.write(block)


def _blocks(file: BinaryIO, packed: PackedFile, name: str) -> Iterator[bytes]:
    """Yield the bytes of a packed file. Raise Refused at the end where they are damaged."""
    file.seek(packed.begin)
    left, crc = packed.size, 0
    while left > 0 and (block := file.read(min(left, _BLOCK))):
        crc, left = zlib.crc32(block, crc), left - len(block)
        yield block
    if left or crc != packed.crc:
        raise _refused(name, f"the bytes of {packed.name} whose CRC-32 it states", "others")


def _manifest(file: BinaryIO, files: list[PackedFile], name: str) -> PackageManifest:
    found = next((each for each in files if each.name == MANIFEST), None)
    if found is None or found.size > MAX_MANIFEST:
        got = "none" if found is None else f"{found.size} bytes"
        raise _refused(name, f"the file {MANIFEST}, of at most {MAX_MANIFEST} bytes", got)
    manifest = parse_manifest(b"".join(_blocks(file, found, name)), f"{name}, {MANIFEST}")
    if not any(each.name == manifest.entry_point for each in files):
        raise _refused(name, f"the file {manifest.entry_point}, its entry point", "none of that name")
    return manifest


def parse_manifest(text: bytes, place: str) -> PackageManifest:
    """Return the manifest of its JSON. Raise Refused naming ``place``."""
    try:
        return PackageManifest.model_validate_json(text)
    except ValidationError as error:
        found = refusal_of(error, place)
        raise Refused("bad-package", topic=place, field=found.field, expected=found.expected, got=found.got,
                      hint=found.hint) from None  # fmt: skip


def dump_manifest(manifest: PackageManifest) -> bytes:
    """Return the one JSON of a manifest: the digest of a package depends on it."""
    tree = manifest.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return json.dumps(tree, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


def _check_files(files: list[PackedFile], name: str) -> None:
    if not 0 < len(files) <= MAX_FILES:
        raise _refused(name, f"1 to {MAX_FILES} files", f"{len(files)} files")
    keys = [each.name.encode() for each in files]
    for each, key, before in zip(files, keys, [b"", *keys], strict=False):
        if key <= before:
            raise _refused(name, "each file once, sorted by name", each.name)
    if twice := collision(each.name for each in files):
        raise _refused(name, "names that differ in more than case, and no file that is a directory too", twice)


def _read_end(file: BinaryIO, size: int, name: str) -> tuple[int, int, int]:
    """Return number of files, and length and offset of the list of files."""
    file.seek(max(0, size - _END.size))
    tail = file.read(_END.size)
    if len(tail) == _END.size:
        *_, count, length, start, _ = _END.unpack(tail)
        whole = start + length + _END.size == size and length <= _MAX_DIRECTORY
        if whole and tail == _end(count, length, start):
            return count, length, start
    raise _refused(name, "a zip as 'heliograph algorithms pack' writes it, without a comment", "something else")


def _entries(directory: bytes, name: str) -> Iterator[PackedFile]:
    place = 0
    while place < len(directory):
        if place + _ENTRY.size > len(directory):
            raise _refused(name, "whole entries in its list of files", "half of one")
        fields = _ENTRY.unpack_from(directory, place)
        crc, stored, size, length = fields[7], fields[8], fields[9], fields[10]
        attributes, offset = fields[15], fields[16]
        raw = directory[place + _ENTRY.size : place + _ENTRY.size + length]
        try:
            path = raw.decode()
        except UnicodeDecodeError:
            raise _refused(name, "file names in UTF-8", raw) from None
        if not is_path(path):
            raise _refused(name, PATH_RULE, path)
        mode = attributes >> 16
        if mode not in (_PLAIN, _EXECUTABLE):
            what = "a symbolic link" if stat.S_ISLNK(mode) else f"mode {mode:o}"
            raise _refused(name, f"{path} as a plain file (mode {_PLAIN:o} or {_EXECUTABLE:o})", what)
        if fields[4] != _STORED or stored != size:
            raise _refused(name, f"{path} stored without compression", f"method {fields[4]}, {stored} bytes of {size}")
        yield PackedFile(path, size, crc, mode == _EXECUTABLE, offset)
        place += _ENTRY.size + length + fields[11] + fields[12]


def _header(file: PackedFile) -> bytes:
    name = file.name.encode()
    return _LOCAL.pack(b"PK\3\4", _VERSION, _UTF_8, _STORED, _TIME, _DATE, file.crc, file.size, file.size, len(name),
                       0) + name  # fmt: skip


def _entry(file: PackedFile) -> bytes:
    name, mode = file.name.encode(), _EXECUTABLE if file.executable else _PLAIN
    return _ENTRY.pack(b"PK\1\2", _MADE_ON_UNIX, _VERSION, _UTF_8, _STORED, _TIME, _DATE, file.crc, file.size,
                       file.size, len(name), 0, 0, 0, 0, mode << 16, file.offset) + name  # fmt: skip


def _end(count: int, length: int, offset: int) -> bytes:
    return _END.pack(b"PK\5\6", 0, 0, count, count, length, offset, 0)


def _refused(name: str, expected: str, got: object) -> Refused:
    return Refused("bad-package", topic=name, expected=expected, got=got)
