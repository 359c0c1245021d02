"""Parquet files: rows and columns, from the footer. No library reads it: it is 200 bytes of Thrift, and untrusted.

The form of the footer: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift in Thrift's
compact protocol, https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.unusable import Unusable

MAGIC = b"PAR1"
MAX_READ = 16 << 20
"""Bytes of the footer that are read: the schema is at its start."""
MAX_VALUES = 1_000_000
MAX_DEPTH = 16
PHYSICAL = ("bool", "int32", "int64", "int96", "float32", "float64", "bytes", "bytes")
CONVERTED = {0: "text", 4: "text", 5: "decimal", 6: "date", 7: "time", 8: "time", 9: "datetime", 10: "datetime",
             11: "uint8", 12: "uint16", 13: "uint32", 14: "uint64", 15: "int8", 16: "int16", 19: "json"}  # fmt: skip
LOGICAL = {1: "text", 4: "text", 5: "decimal", 6: "date", 7: "time", 8: "datetime", 12: "json", 14: "uuid",
           15: "float16"}  # fmt: skip
"""Readable names by the numbers of parquet.thrift's ``Type``, ``ConvertedType`` and ``LogicalType``."""


@dataclass(frozen=True)
class ParquetSurvey:
    samples: int
    columns: dict[str, str]


def survey(file: BinaryIO, size: int) -> ParquetSurvey:
    """Return rows and columns. Raise Unusable if it is no parquet file."""
    file.seek(max(0, size - 8))
    tail = file.read(8)
    if size < 12 or tail[4:] == b"PARE" or tail[4:] != MAGIC:
        raise Unusable("is encrypted; decrypt it first" if tail[4:] == b"PARE"
                       else "is truncated or no parquet file; copy it again")  # fmt: skip
    length = int.from_bytes(tail[:4], "little")
    if not 0 < length <= size - 12:
        raise Unusable(f"has a footer of {length} bytes, more than the file; it is damaged, copy it again")
    file.seek(size - 8 - length)
    try:
        schema, rows = _head(_Compact(file.read(min(length, MAX_READ))))
        columns = dict(_columns(schema))
    except (IndexError, ValueError, TypeError, KeyError, AttributeError) as error:  # also values of other types
        raise Unusable(f"has a damaged footer ({shorten(str(error))}); write it again") from None
    if not 0 < rows < 1 << 48 or not columns:
        raise Unusable("holds no rows; write the data set again" if columns else "holds no columns; write it again")
    return ParquetSurvey(rows, columns)


def _head(data: _Compact) -> tuple[list[dict[int, Any]], int]:
    """Return schema and number of rows, the footer's second and third field; read no further."""
    schema: list[dict[int, Any]] | None = None
    for number, kind in data.fields():
        if number == 2:
            schema = data.value(kind)
        elif number == 3:
            rows = data.value(kind)
            if not isinstance(schema, list) or not isinstance(rows, int):
                break
            return schema, rows
        else:
            data.value(kind)
    raise ValueError("no schema")


def _columns(schema: list[dict[int, Any]]) -> Iterator[tuple[str, str]]:
    """Yield name and readable type of each column of the first level: the schema is a tree in depth-first order."""
    place = 1
    for _ in range(schema[0][5]):
        node = schema[place]
        name = node[4].decode()
        yield name, _kind(node)
        place = _behind(schema, place)


def _behind(schema: list[dict[int, Any]], place: int) -> int:
    """Return the place behind an element and all below it."""
    open_elements = 1
    while open_elements:
        open_elements += schema[place].get(5, 0) - 1
        place += 1
    return place


def _kind(node: dict[int, Any]) -> str:
    if node.get(5):
        return {1: "map", 2: "map", 3: "list"}.get(node.get(6, -1), "struct")
    logical = next(iter(node.get(10) or {}), None)
    if logical in LOGICAL:
        return LOGICAL[logical]
    if node.get(6) in CONVERTED:
        return CONVERTED[node[6]]
    return PHYSICAL[node[1]]


class _Compact:
    """A reader of Thrift's compact protocol: structs are dicts by field number. Raise IndexError behind the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0
        self._values = 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield number and type of each field of a struct; the caller reads each value."""
        number = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self._zigzag()
            yield number, kind

    def value(self, kind: int, depth: int = 0) -> Any:
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            raise ValueError("nested too deeply" if depth > MAX_DEPTH else "too many columns")
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._varint())
        if kind in (9, 10):
            head = self._byte()
            count, inner = head >> 4, head & 15
            if count == 15:
                count = self._varint()
            if count > len(self._data) - self._place:  # an element has a byte at least
                raise ValueError(f"a list of {count} elements")
            return [self.value(inner if inner > 2 else 3, depth + 1) for _ in range(count)]
        if kind == 12:
            return {number: self.value(each, depth + 1) for number, each in self.fields()}
        raise ValueError(f"type {kind}")

    def _byte(self) -> int:
        self._place += 1
        return self._data[self._place - 1]

    def _bytes(self, count: int) -> bytes:
        if count > len(self._data) - self._place:
            raise IndexError("end of data")
        self._place += count
        return self._data[self._place - count : self._place]

    def _varint(self) -> int:
        found = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
        raise ValueError("a number of more than 64 bits")

    def _zigzag(self) -> int:
        found = self._varint()
        return (found >> 1) ^ -(found & 1)
