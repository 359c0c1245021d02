"""Count the labels in a column of a csv, or in an array of an npz; without NumPy."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.csv_file import Block
from heliograph.edge_agent.datasets.label_counts import LabelCounts
from heliograph.edge_agent.datasets.npy_header import ArrayHeader
from heliograph.edge_agent.datasets.npz_file import DAMAGE, Arrays, open_zip
from heliograph.edge_agent.datasets.unusable import Unusable

USUAL = ("y", "label", "labels", "target", "targets", "y_train", "train_y", "labels_train", "train_labels")
"""Names of arrays that hold labels where none is named."""
_BLOCK = 1 << 18
_CODES = {"bool": "B", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
          "int64": "q", "uint64": "Q"}  # fmt: skip


def require_column(column: str | None, columns: Mapping[str, str]) -> None:
    """Raise Unusable unless the data set has the column that its document names."""
    if column is not None and column not in columns:
        some = ", ".join(shorten(name) for name in list(columns)[:10])
        raise Unusable(f"has no column {shorten(column)} (spec.label); it has {some}")


def counting(labels: LabelCounts) -> Callable[[Block], None]:
    """Return the function that counts a csv's labels, block by block."""

    def count(block: Block) -> None:
        require_column(labels.column, dict.fromkeys(block.look.names, ""))
        column = block.column(block.look.names.index(labels.column or ""))
        labels.add_all(cell.strip(b'"').decode("utf-8", "replace") for cell in column)

    return count


def count_arrays(file: BinaryIO, size: int, arrays: Arrays, labels: LabelCounts) -> None:
    """Count the labels in an npz's array of whole numbers or texts, one for each sample; of others there are none."""
    names = [labels.column] if labels.column is not None else [name for name in USUAL if name in arrays.headers]
    for name in names[:1]:
        header = arrays.headers[name]
        if header.shape[1:] in ((), (1,)):
            try:
                with open_zip(file, size).open(f"{name}.npy") as stream:
                    stream.read(header.offset)
                    for values in _values(stream, header):
                        labels.add_all(map(str, values))
            except DAMAGE as error:
                raise Unusable(f"is damaged ({shorten(str(error))}); write it again") from None


def _values(stream: Any, header: ArrayHeader) -> Iterator[list[Any]]:
    descr = header.descr if isinstance(header.descr, str) else ""
    swapped = descr[:1] == (">" if sys.byteorder == "little" else "<")
    width = header.size // max(1, header.samples)
    if header.dtype in _CODES:
        while data := _whole(stream, width):
            values = array(_CODES[header.dtype], data)
            if swapped:
                values.byteswap()
            yield values.tolist()
    elif header.dtype.startswith(("U", "S")) and width:
        codec = ("utf-32-be" if descr[:1] == ">" else "utf-32-le") if header.dtype.startswith("U") else "latin-1"
        while data := _whole(stream, width):
            yield [data[at : at + width].decode(codec, "replace").rstrip("\0") for at in range(0, len(data), width)]


def _whole(stream: Any, width: int) -> bytes:
    """Read whole elements; at the end, none."""
    data: bytes = stream.read(max(1, _BLOCK // width) * width)
    return data[: len(data) // width * width]
