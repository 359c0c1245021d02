"""Write small ONNX models: a linear layer, and what is wrong with some."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence


def model(
    weights: Sequence[Sequence[float]], *, opset: int = 13, classes: str = "", operator: str = "MatMul",
    batch: int | str = "batch", external: bool = False,
) -> bytes:  # fmt: skip
    """Return a model that multiplies its input ``x`` with these weights, inputs × outputs, to its output ``scores``."""
    rows, columns = len(weights), len(weights[0])
    raw = b"".join(struct.pack("<f", each) for row in weights for each in row)
    tensor = _field(1, rows) + _field(1, columns) + _field(2, 1) + _field(8, "w")
    tensor += _field(13, _field(1, "location") + _field(2, "w.bin")) + _field(14, 1) if external else _field(9, raw)
    node = _field(1, "x") + _field(1, "w") + _field(2, "scores") + _field(4, operator)
    graph = _field(1, node) + _field(2, "g") + _field(5, tensor)
    graph += _field(11, _value("x", [batch, rows])) + _field(12, _value("scores", [batch, columns]))
    found = _field(1, 7) + _field(7, graph) + _field(8, _field(1, "") + _field(2, opset))
    return found + (_field(14, _field(1, "classes") + _field(2, classes)) if classes else b"")


def _value(name: str, shape: Iterable[int | str]) -> bytes:
    axes = b"".join(_field(1, _field(1 if isinstance(axis, int) else 2, axis)) for axis in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, axes)))


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])
