"""Prove that a file is a TensorFlow Lite model, and read its inputs and outputs: without a runtime.

The format (tensorflow/tensorflow, ``schema.fbs``): a FlatBuffer with the identifier ``TFL3``. A table begins with the
distance back to its vtable, which has the place of each field; a vector and a text begin with their length.
"""

from __future__ import annotations

from heliograph.bus.contract.model_signature import ModelSignature, bad_model
from heliograph.bus.contract.resources.model import MAX_TENSORS, TensorSchema

IDENTIFIER = b"TFL3"
DTYPES = ("float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8", "float64",
          "complex128", "uint64", "resource", "variant", "uint32", "uint16")  # fmt: skip
"""``TensorType``."""
_VERSION = 3


def read_tflite(data: memoryview, name: str) -> ModelSignature:
    """Return the inputs and outputs of a model. Raise Refused, naming the file, where it is no such model."""
    if len(data) < 8 or bytes(data[4:8]) != IDENTIFIER:
        raise bad_model(name, "a TensorFlow Lite model, with TFL3 after four bytes", f"{bytes(data[:8])!r}")
    try:
        return _read(data)
    except ValueError as error:
        raise bad_model(name, "a TensorFlow Lite model in one piece", str(error)) from None


def _read(data: memoryview) -> ModelSignature:
    model = _Table(data, _uint(data, 0))
    version = model.number(0, 4)
    if version != _VERSION:
        raise ValueError(f"a schema of version {version}; version {_VERSION} is known")
    graphs = model.tables(2)
    if not graphs:
        raise ValueError("no graph")
    model.tables(4)  # buffers: their places lie within the file
    graph = graphs[0]
    tensors = graph.tables(0)
    sides = []
    for field in (1, 2):
        places = graph.numbers(field)
        if not 0 < len(places) <= MAX_TENSORS or any(place >= len(tensors) for place in places):
            raise ValueError(f"{len(places)} inputs or outputs; a model has 1 to {MAX_TENSORS} of each")
        names = _names(model, field - 1)
        sides.append(tuple(_schema(tensors[place], names.get(place, "")) for place in places))
    return ModelSignature(sides[0], sides[1])


def _names(model: _Table, side: int) -> dict[int, str]:
    """Return the names by which the model's signature calls the inputs, or the outputs, by their tensors; the tensors
    have names of the converter's."""
    signature = next((each for each in model.tables(7) if not each.number(4, 4)), None)
    named = signature.tables(side) if signature is not None else []
    return {each.number(1, 4): each.text(0) for each in named}


def _schema(tensor: _Table, name: str) -> TensorSchema:
    kind = tensor.number(1, 1)
    shape = tensor.numbers(7) or tensor.numbers(0)  # shape_signature has -1 where any length will do
    lengths = [length if length < 1 << 31 else -1 for length in shape]
    if len(lengths) > 16:
        raise ValueError(f"a tensor of {len(lengths)} axes")
    return TensorSchema(name=(name or tensor.text(3))[:1024], dtype=DTYPES[kind] if kind < len(DTYPES) else "unknown",
                        shape=lengths)  # fmt: skip


class _Table:
    """One table. Each place is checked to lie within the file."""

    def __init__(self, data: memoryview, place: int) -> None:
        self._data = data
        self._place = place
        self._fields = place - _int(data, place)
        self._size = _uint(data, self._fields, 2)
        if self._size < 4:
            raise ValueError(f"a table without fields at byte {place}")

    def number(self, field: int, size: int) -> int:
        """Return a number of so many bytes; 0 where the table has none."""
        place = self._at(field)
        return _uint(self._data, place, size) if place else 0

    def text(self, field: int) -> str:
        start, length = self._vector(field, 1)
        return bytes(self._data[start : start + length]).decode(errors="replace")

    def numbers(self, field: int) -> list[int]:
        start, length = self._vector(field, 4)
        return [_uint(self._data, start + 4 * each) for each in range(length)]

    def tables(self, field: int) -> list[_Table]:
        start, length = self._vector(field, 4)
        places = range(start, start + 4 * length, 4)
        return [_Table(self._data, place + _uint(self._data, place)) for place in places]

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """Return where a vector's entries begin, and their number."""
        place = self._at(field)
        if not place:
            return 0, 0
        place += _uint(self._data, place)
        length = _uint(self._data, place)
        if length * size > len(self._data) - place - 4:
            raise ValueError(f"{length} entries at byte {place}, more than the file has")
        return place + 4, length

    def _at(self, field: int) -> int:
        """Return the place of a field; 0 where the table has none."""
        entry = 4 + 2 * field
        offset = _uint(self._data, self._fields + entry, 2) if entry + 2 <= self._size else 0
        return self._place + offset if offset else 0


def _uint(data: memoryview, place: int, size: int = 4) -> int:
    if not 0 <= place <= len(data) - size:
        raise ValueError(f"a place at byte {place} in {len(data)} bytes")
    return int.from_bytes(data[place : place + size], "little")


def _int(data: memoryview, place: int) -> int:
    found = _uint(data, place)
    return found - (1 << 32) if found >= 1 << 31 else found
