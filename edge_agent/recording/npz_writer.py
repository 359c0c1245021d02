"""Write an npz of rows, block by block, without NumPy. Equal rows make equal bytes."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ALIGN = 64
_DATE = (1980, 1, 1, 0, 0, 0)
_ENDIAN = "<" if sys.byteorder == "little" else ">"
_FIRST = b"\x93NUMPY\x01\x00"


@dataclass(frozen=True)
class Column:
    """An array of an npz.

    Attributes:
        kind: NumPy's letter and the bytes of an element: ``f4``.
        shape: the first axis is that of the rows.
        blocks: the elements' bytes, as this machine orders them.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    blocks: Iterable[bytes]


def write_npz(file: Path, columns: Iterable[Column]) -> None:
    """Write the arrays, one after the other. Raise OSError as ``open``."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for each in columns:
            member = zipfile.ZipInfo(f"{each.name}.npy", _DATE)
            member.external_attr = 0o600 << 16
            with archive.open(member, "w", force_zip64=True) as stream:
                stream.write(_header(each))
                for block in each.blocks:
                    stream.write(block)


def _header(column: Column) -> bytes:
    """Return the header of a ``.npy`` (NumPy NEP 1, version 1.0)."""
    text = f"{{'descr': '{_ENDIAN}{column.kind}', 'fortran_order': False, 'shape': {column.shape}, }}"
    room = -(len(_FIRST) + 2 + len(text) + 1) % _ALIGN
    padded = text.encode() + b" " * room + b"\n"
    return _FIRST + len(padded).to_bytes(2, "little") + padded
