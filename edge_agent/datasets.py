"""Data sets on this node: resolve URLs and index files, without NumPy and without trust in their content.

An npz is a zip of ``.npy`` members (NumPy NEP 1, format versions 1-3). Only their headers are inflated and read as a
literal; nothing is unpickled or evaluated, and no header decides how much memory is allocated.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import math
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from heliograph.bus.contract.resources.dataset import DatasetIndex
from heliograph.core.errors import Refused, shorten

MAX_COLUMNS = 4096
MAX_TEXT = 128 * 1024
"""Characters of all column names and dtypes together: the index travels inside the agent's report."""
MAX_HEADER = 10_000
"""Bytes of a ``.npy`` header: the most that ``numpy.load`` reads by default."""
MAX_ROW = 16 * 1024 * 1024
"""Characters of one csv row: bounds memory where quotes or line ends are missing."""

_KINDS = {"i": "int", "u": "uint", "f": "float", "c": "complex"}
_DTYPE = re.compile(r"[<>|=]?([biufcmMOSUV])(\d{0,9})(\[[0-9a-zA-Z/]{1,16}\])?")
_ZIP, _NPY = b"PK\x03\x04", b"\x93NUMPY"


def index(name: str, path: Path, format: str | None = None) -> DatasetIndex:
    """Return samples, columns, SHA-256 and size of a file. Read the whole file: call it in a thread.

    Args:
        name: the data set's name, a DNS label.
        path: a local npz or csv, already resolved below an allowed root.
        format: ``npz`` or ``csv``; None: the file's ending decides.

    Never raise for an unusable file: the index then has only ``error``, one sentence that says what to do. Columns are
    dtype and shape of one sample, ``float32[64]``; in a csv ``number`` or ``text``.
    """
    try:
        # without O_NONBLOCK, opening a named pipe would wait for ever
        with open(path, "rb", opener=lambda file, flags: os.open(file, flags | os.O_NONBLOCK)) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise _Bad("is not a regular file; name an npz or csv file")
            if before.st_size == 0:
                raise _Bad("is empty; write the data set again")
            form = _format(path, file.read(8), format)
            file.seek(0)
            samples, columns = _npz(file, before.st_size) if form == "npz" else _csv(file)
            if sum(len(column) + len(dtype) for column, dtype in columns.items()) > MAX_TEXT:
                raise _Bad(f"has column names of more than {MAX_TEXT} characters together; give it shorter names")
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise _Bad("changed while it was read; write it under another name and rename it when it is whole")
    except _Bad as error:
        return DatasetIndex(name=name, error=f"{path} {error}")
    except (OSError, ValueError) as error:
        return DatasetIndex(name=name, error=f"{path} {_reason(error)}")
    return DatasetIndex(name=name, samples=samples, columns=columns, digest=digest, format=form, size=before.st_size)


def resolve(url: str, roots: Sequence[Path]) -> Path:
    """Return the file that ``url`` names, as an absolute path without links below a root; it need not exist.

    Args:
        url: ``file:///data/x.npz``, an absolute path, or a path relative to a root; of several roots that fit, the
            first in which the file exists wins.
        roots: directories the agent was started with.

    Raise Refused, field ``spec.url``, where the URL leads elsewhere, by ``..`` or a link, or has another form.
    """
    text = url
    if "://" in url or url.startswith("file:"):
        # by hand: urlsplit would cut a file's name at '?' or '#'
        text = unquote(url.removeprefix("file://").removeprefix("localhost"))
        if not url.startswith("file:///") and not url.startswith("file://localhost/"):
            raise _refused(url, roots)
    found = []
    for root in roots:
        try:
            base = root.resolve()
            candidate = (base / text).resolve()
            if text and candidate != base and candidate.is_relative_to(base):
                found.append((not candidate.exists(), candidate))
        except (OSError, ValueError, RuntimeError):
            continue  # a name too long, a null byte, a circle of links
    if not found:
        raise _refused(url, roots)
    return min(found, key=lambda each: each[0])[1]


class _Bad(Exception):
    """The reason why a file is no data set; a message puts the file's path before it."""


def _refused(url: str, roots: Sequence[Path]) -> Refused:
    allowed = f"a file below {' or '.join(map(str, roots))}" if roots else "none, as no root is allowed"
    hint = "Write a path or file:///path; move the file there, or start the agent with --data DIR where DIR holds it."
    return Refused("not-allowed", field="spec.url", expected=allowed, got=url, hint=hint)


def _reason(error: Exception) -> str:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return "does not exist on this node; put the file there or correct spec.url"
        case IsADirectoryError():
            return "is a directory; name the npz or csv file in it"
        case PermissionError():
            return "cannot be read by the agent's user; give it read permission"
        case OSError():
            return f"cannot be read: {error.strerror or error}"
    return f"is no usable path: {shorten(str(error))}"


def _format(path: Path, start: bytes, wanted: str | None) -> str:
    if wanted not in (None, "npz", "csv"):
        raise _Bad(f"has spec.format {shorten(wanted)!r}; expected npz or csv")
    form = wanted or path.suffix.lower().removeprefix(".")
    if start.startswith(_NPY):
        raise _Bad("is a single .npy array; write it with numpy.savez(file, x=x, y=y)")
    if start.startswith(_ZIP) and form == "csv":
        raise _Bad("is a zip file, not a csv; set spec.format: npz if it is one")
    if form not in ("npz", "csv") and not start.startswith(_ZIP):
        raise _Bad("is neither named .npz nor .csv; set spec.format to npz or csv")
    return "csv" if form == "csv" else "npz"


def _npz(file: BinaryIO, size: int) -> tuple[int, dict[str, str]]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = [each for each in archive.infolist() if each.filename.endswith(".npy")]
            if not members:
                raise _Bad("is a zip file without .npy arrays; write it with numpy.savez(file, x=x, y=y)")
            if len(members) > MAX_COLUMNS:
                raise _Bad(f"holds {len(members)} arrays; at most {MAX_COLUMNS} are indexed")
            lengths: dict[str, int] = {}
            columns: dict[str, str] = {}
            for member in members:
                array = member.filename.removesuffix(".npy")
                if array in columns:
                    raise _Bad(f"holds array {shorten(array)!r} twice; write it again")
                lengths[array], columns[array] = _array(archive, member, shorten(array))
    except zipfile.BadZipFile as error:
        file.seek(0)
        if file.read(4) == _ZIP:
            raise _Bad(f"is truncated or damaged ({shorten(str(error))}); copy it again") from None
        raise _Bad("is not an npz file (no zip); write it with numpy.savez, or set spec.format: csv") from None
    except (zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError) as error:
        raise _Bad(f"is damaged ({shorten(str(error))}); write it again") from None
    if len(set(lengths.values())) > 1:
        described = ", ".join(f"{shorten(array)} has {length}" for array, length in list(lengths.items())[:8])
        raise _Bad(f"has arrays whose first axes, the samples, differ: {described}; save arrays of one length")
    samples = next(iter(lengths.values()))
    if samples == 0:
        raise _Bad("holds arrays of zero samples; write the data set again")
    return samples, columns


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> tuple[int, str]:
    """Return the length of the first axis, and dtype and shape of one sample; inflate the header only."""
    if member.flag_bits & 1:
        raise _Bad(f"has an encrypted array {name!r}; write it with numpy.savez")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _Bad(f"has array {name!r} in an unknown compression; write it with numpy.savez_compressed")
    with archive.open(member) as stream:
        magic = stream.read(8)
        width = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}.get(magic[6:])
        if magic[:6] != _NPY or width is None:
            raise _Bad(f"has a member {name!r} that is no .npy array of version 1 to 3; write it with numpy.savez")
        length = int.from_bytes(stream.read(width), "little")
        if length > MAX_HEADER:
            raise _Bad(f"has array {name!r} with a header of {length} bytes; at most {MAX_HEADER} are read")
        header = stream.read(length)
        if len(header) < length:
            raise _Bad(f"is truncated within the header of array {name!r}; copy it again")
    try:
        tree = ast.literal_eval(header.decode("utf-8" if magic[6] == 3 else "latin-1").strip())
        descr, _, shape = tree["descr"], tree["fortran_order"], tree["shape"]
        item = _count(shape)
        dtype, size = _dtype(descr, name)
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError, SystemError) as error:
        raise _Bad(f"has array {name!r} with a header that is not NumPy's ({shorten(str(error))})") from None
    if not shape:
        raise _Bad(f"has a single value {name!r} without an axis of samples; leave it out or give it one per sample")
    if 8 + width + length + item * size != member.file_size:
        raise _Bad(f"has array {name!r} of another size than its header says; it is damaged, write it again")
    return shape[0], dtype + (f"[{','.join(map(str, shape[1:]))}]" if shape[1:] else "")


def _dtype(descr: Any, name: str, depth: int = 0) -> tuple[str, int]:
    """Return the readable form and the size in bytes of NumPy's ``descr``. Raise ValueError where it is no dtype."""
    if isinstance(descr, str) and (match := _DTYPE.fullmatch(descr)):
        kind, digits, unit = match.groups()
        size = int(digits or 0)
        if kind == "O":
            raise _Bad(f"has array {name!r} of Python objects, which need pickle and are never loaded; "
                       "convert it to numbers or text before numpy.savez")  # fmt: skip
        if kind in "mM":
            return ("datetime64" if kind == "M" else "timedelta64") + (unit or ""), size
        if kind == "b":
            return "bool", size
        if kind in _KINDS:
            return f"{_KINDS[kind]}{size * 8}", size
        return kind + digits, size * 4 if kind == "U" else size
    if not isinstance(descr, list) or depth > 8:
        raise ValueError(f"dtype {shorten(descr)}")
    fields, total = [], 0
    for label, inner, *rest in descr:
        dtype, size = _dtype(inner, name, depth + 1)
        axes = rest[0] if rest else ()
        total += size * _count(axes)
        label = label[-1] if isinstance(label, tuple) else label  # (title, name)
        if label:  # padding has no name
            fields.append(f"{label}: {dtype}" + (f"[{','.join(map(str, axes))}]" if axes else ""))
    return "{" + ", ".join(fields) + "}", total


def _count(shape: Any) -> int:
    """Return the number of elements. Raise ValueError for a bad ``shape`` before it is multiplied."""
    axes = shape if isinstance(shape, tuple) and len(shape) <= 64 else (None,)
    if all(type(axis) is int and 0 <= axis < 1 << 48 for axis in axes):
        return math.prod(shape)
    raise ValueError(f"shape {shorten(shape)}")


class _Lines:
    """Lines of a text; bounds those since the last whole row, so that an open quote cannot fill the memory."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self.text = text
        self.pending = 0

    def __iter__(self) -> Iterator[str]:
        while line := self.text.readline(MAX_ROW + 1):
            self.pending += len(line)
            if self.pending > MAX_ROW:
                raise csv.Error(f"a row of more than {MAX_ROW} characters; is a quote or a line end missing?")
            yield line


def _csv(file: BinaryIO) -> tuple[int, dict[str, str]]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    lines = _Lines(text)
    rows = csv.reader(lines, strict=True)
    try:
        return _rows(rows, lines)
    except UnicodeDecodeError:
        raise _Bad(f"is not UTF-8 text after line {rows.line_num}; save it as csv in UTF-8") from None
    except csv.Error as error:
        raise _Bad(f"is no csv at line {rows.line_num}: {error}") from None
    finally:
        text.detach()  # else it closes the file, which is hashed later


def _rows(rows: Any, lines: _Lines) -> tuple[int, dict[str, str]]:
    names: list[str] = next((row for row in rows if row), [])
    lines.pending = 0
    if not names:
        raise _Bad("has no header line; its first line must name the columns")
    if len(names) == 1 and (mark := next((mark for mark in ";\t|" if mark in names[0]), "")):
        raise _Bad(f"has fields separated by {mark!r}; save it with commas")
    if len(names) > MAX_COLUMNS or any("\0" in name for name in names):
        raise _Bad(f"has no header of at most {MAX_COLUMNS} names in line 1; is it a csv?")
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise _Bad(f"names column {shorten(twice)!r} twice in its header; give each column a name of its own")
    samples = 0
    kinds = ["" for _ in names]  # an empty cell is a missing value and decides nothing
    undecided = list(range(len(names)))
    for row in rows:
        lines.pending = 0
        if not row:
            continue
        if len(row) != len(names):
            raise _Bad(f"has {len(row)} fields in line {rows.line_num}, expected {len(names)} as in its header; "
                       "correct or delete that line")  # fmt: skip
        samples += 1
        text = False
        for place in undecided:
            if value := row[place].strip():
                kinds[place] = "number" if _is_number(value) else "text"
                text = text or kinds[place] == "text"
        if text:
            undecided = [place for place in undecided if kinds[place] != "text"]
    if samples == 0:
        raise _Bad("has a header but no rows; write the data set again")
    return samples, {name: kind or "text" for name, kind in zip(names, kinds, strict=True)}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # only Python reads 1_000
