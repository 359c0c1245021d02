"""Walk the fields of a protocol-buffers message, without a copy and without the library.

The encoding (protobuf.dev, "Encoding"): a field is a varint ``number << 3 | wire type``, then a varint (0), eight bytes
(1), a length and as many bytes (2), or four bytes (5). Groups (3, 4) are of proto2; ONNX has none.
"""

from __future__ import annotations

from collections.abc import Iterator

Value = int | memoryview


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield the number and the value of each field: an integer, or the bytes of a text, a message or packed numbers.

    Raise ValueError where the bytes are no message: each length is checked against what is left.
    """
    place, end = 0, len(data)
    while place < end:
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if not number:
            raise ValueError(f"a field without a number at byte {place}")
        if wire == 0:
            value, place = _varint(data, place)
            yield number, value
            continue
        length = {1: 8, 5: 4}.get(wire)
        if wire == 2:
            length, place = _varint(data, place)
        if length is None:
            raise ValueError(f"an unknown kind of field at byte {place}")
        if length > end - place:
            raise ValueError(f"a field of {length} bytes at byte {place}, where {end - place} are left")
        part = data[place : place + length]
        yield number, part if wire == 2 else int.from_bytes(part, "little")
        place += length


def text(value: Value) -> str:
    """Return a text field. Raise ValueError where it is none."""
    if isinstance(value, int):
        raise ValueError("a number where a text belongs")
    return bytes(value).decode()  # UnicodeDecodeError is a ValueError


def message(value: Value) -> memoryview:
    """Return the bytes of a message field. Raise ValueError where it is none."""
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def signed(value: Value) -> int:
    """Return an int64 field. Raise ValueError where it is none."""
    if not isinstance(value, int):
        raise ValueError("bytes where a number belongs")
    return value - (1 << 64) if value >= 1 << 63 else value


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise ValueError(f"a number that does not end at byte {place}")
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value & ((1 << 64) - 1), place
        shift += 7
