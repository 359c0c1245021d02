"""npz files: zips of ``.npy`` arrays with a common first axis. Only their headers are inflated."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal

from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.npy_header import ArrayHeader, read_header
from heliograph.edge_agent.datasets.unusable import Unusable

ZIP = b"PK\x03\x04"
MAX_DIRECTORY = 4 << 20
"""Bytes of a zip's table of contents, which ``zipfile`` reads into memory whole: some 80,000 members."""
DAMAGE = (zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)
"""Errors that ``zipfile`` raises on damaged members, beside its own."""

Use = Literal["train", "validation", "test"]
_USE = re.compile(
    r"(?:^|[_.\- ]|(?<=^[xy]))(train(?:ing)?|test(?:ing)?|val(?:id(?:ation)?)?)(?=$|[_.\- ]|[xy]$)", re.IGNORECASE
)


@dataclass(frozen=True)
class Arrays:
    """The arrays of a file or a directory, by name.

    Attributes:
        uses: array name to its use, where the names tell a training part and others: ``x_train``, ``x_test``.
            Empty where all arrays have the same samples.
    """

    headers: Mapping[str, ArrayHeader]
    uses: Mapping[str, Use]

    @property
    def columns(self) -> dict[str, str]:
        return {name: header.sample for name, header in self.headers.items()}

    @property
    def samples(self) -> int:
        """Return the number of samples; of the training part where there are several."""
        return next(each.samples for name, each in self.headers.items() if self.uses.get(name, "train") == "train")


def read_arrays(file: BinaryIO, size: int) -> Arrays:
    """Return the arrays of an npz. Raise Unusable if it is none, or its arrays do not fit together."""
    archive = open_zip(file, size)
    members = [each for each in archive.infolist() if each.filename.endswith(".npy")]
    if not members:
        raise Unusable("is a zip file without .npy arrays; write it with numpy.savez(file, x=x, y=y)")
    headers: dict[str, ArrayHeader] = {}
    try:
        for member in members:
            array = member.filename.removesuffix(".npy")
            if array in headers:
                raise Unusable(f"holds array {shorten(array)!r} twice; write it again")
            headers[array] = _read_member(archive, member, shorten(array))
    except zipfile.BadZipFile as error:
        raise Unusable(f"is truncated or damaged ({shorten(str(error))}); copy it again") from None
    except DAMAGE as error:
        raise Unusable(f"is damaged ({shorten(str(error))}); write it again") from None
    return fit_together(headers)


def fit_together(headers: Mapping[str, ArrayHeader]) -> Arrays:
    """Return the arrays with their uses. Raise Unusable unless all of one use have the same number of samples."""
    uses = uses_of(headers)
    for use in ("train", "validation", "test"):
        lengths = {name: each.samples for name, each in headers.items() if uses.get(name, "train") == use}
        if len(set(lengths.values())) > 1:
            described = ", ".join(f"{shorten(array)} has {length}" for array, length in list(lengths.items())[:8])
            raise Unusable(f"has arrays whose first axes, the samples, differ: {described}; save arrays of one length")
        if 0 in lengths.values():
            raise Unusable("holds arrays of zero samples; write the data set again")
    return Arrays(headers, uses)


def uses_of(names: Iterable[str]) -> dict[str, Use]:
    """Return the use of each name, where every name tells one and there is a training part and another; else none."""
    found: dict[str, Use] = {}
    for name in names:
        match = _USE.search(name)
        if match is None:
            return {}
        start = match[1].lower()
        found[name] = "train" if start.startswith("train") else "test" if start.startswith("test") else "validation"
    return found if "train" in found.values() and len(set(found.values())) > 1 else {}


def stem_of(name: str) -> str:
    """Return an array's name without its use: equal for ``x_train`` and ``x_test``."""
    return _USE.sub("", name).strip("_.- ")


def open_zip(file: BinaryIO, size: int) -> zipfile.ZipFile:
    """Open a zip whose table of contents is small. Raise Unusable if it is too large or no zip."""
    if (length := _directory_size(file, size)) > MAX_DIRECTORY:
        raise Unusable(f"is a zip with a table of contents of {length} bytes; at most {MAX_DIRECTORY} are read: "
                       "put its files into fewer, larger ones")  # fmt: skip
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        file.seek(0)
        if file.read(4) == ZIP:
            raise Unusable(f"is truncated or damaged ({shorten(str(error))}); copy it again") from None
        raise Unusable("is not an npz file (no zip); write it with numpy.savez, or set spec.format: csv") from None
    except DAMAGE as error:
        raise Unusable(f"is damaged ({shorten(str(error))}); write it again") from None


def check_member(member: zipfile.ZipInfo, name: str) -> None:
    """Raise Unusable if a member cannot be read."""
    if member.flag_bits & 1:
        raise Unusable(f"has an encrypted array {name!r}; write it with numpy.savez")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unusable(f"has array {name!r} in an unknown compression; write it with numpy.savez_compressed")


def _directory_size(file: BinaryIO, size: int) -> int:
    """Return the bytes of the table of contents, as ``zipfile`` will find it; 0 where it finds none."""
    tail = min(size, (1 << 16) + 22)
    file.seek(size - tail)
    end = file.read(tail)
    place = len(end) - 22 if end[-22:-18] == b"PK\5\6" and end[-2:] == b"\0\0" else end.rfind(b"PK\5\6")
    if place < 0 or len(end) < place + 22:
        return 0
    length = int.from_bytes(end[place + 12 : place + 16], "little")
    file.seek(max(0, size - tail + place - 20))
    locator = file.read(20)
    if locator[:4] == b"PK\6\7":
        file.seek(min(size, int.from_bytes(locator[8:16], "little")))
        record = file.read(56)
        if record[:4] != b"PK\6\6":  # before it as zipfile looks for it, where something precedes the archive
            file.seek(max(0, size - tail + place - 76))
            record = file.read(56)
        if record[:4] == b"PK\6\6":
            length = max(length if length != 0xFFFFFFFF else 0, int.from_bytes(record[40:48], "little"))
    return length


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> ArrayHeader:
    check_member(member, name)
    with archive.open(member) as stream:
        return read_header(stream, member.file_size, name)
