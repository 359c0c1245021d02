"""Write small ONNX models: a linear layer, what is wrong with some, a slow one, and one that crashes its process."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence


def model(
    weights: Sequence[Sequence[float]], *, opset: int = 13, classes: str = "", operator: str = "MatMul",
    batch: int | str = "batch", external: bool = False,
) -> bytes:  # fmt: skip
    """Return a model that multiplies its input ``x`` with these weights, inputs × outputs, to its output ``scores``."""
    rows, columns = len(weights), len(weights[0])
    tensor = _floats("w", rows, columns, [each for row in weights for each in row])
    if external:
        tensor = _field(1, rows) + _field(1, columns) + _field(2, 1) + _field(8, "w")
        tensor += _field(13, _field(1, "location") + _field(2, "w.bin")) + _field(14, 1)
    graph = _field(1, _node(operator, ["x", "w"], "scores")) + _field(5, tensor)
    graph += _field(11, _value("x", [batch, rows])) + _field(12, _value("scores", [batch, columns]))
    return _file(graph, opset, classes)


def labelled(weights: Sequence[Sequence[float]], labels: Sequence[int]) -> bytes:
    """Return a classifier as scikit-learn's exporter writes it: ``label`` is one of these labels, beside ``scores``."""
    rows, columns = len(weights), len(weights[0])
    axis = _field(5, _field(1, "axis") + _field(3, 1) + _field(20, 2))
    flat = _field(5, _field(1, "keepdims") + _field(3, 0) + _field(20, 2))
    values = _field(1, len(labels)) + _field(2, 7) + _field(8, "labels")
    values += _field(9, struct.pack(f"<{len(labels)}q", *labels))
    nodes = [_node("MatMul", ["x", "w"], "scores"), _node("ArgMax", ["scores"], "best") + axis + flat,
             _node("Gather", ["labels", "best"], "label")]  # fmt: skip
    graph = b"".join(_field(1, node) for node in nodes)
    graph += _field(5, _floats("w", rows, columns, [each for row in weights for each in row])) + _field(5, values)
    graph += _field(11, _value("x", ["batch", rows])) + _field(12, _value("label", ["batch"], 7))
    return _file(graph + _field(12, _value("scores", ["batch", columns])))


def slow(weights: Sequence[Sequence[float]], times: int, width: int = 1024) -> bytes:
    """Return a model that answers as ``model`` does, after so many multiplications of square matrices."""
    rows, columns = len(weights), len(weights[0])
    diagonal = [float(row == column) for row in range(width) for column in range(width)]
    wide = [weights[row][column] if column < columns else 0.0 for row in range(rows) for column in range(width)]
    narrow = [float(row == column) for row in range(width) for column in range(columns)]
    graph = _field(1, _node("MatMul", ["x", "wide"], "y0"))
    for number in range(times):
        graph += _field(1, _node("MatMul", [f"y{number}", "one"], f"y{number + 1}"))
    graph += _field(1, _node("MatMul", [f"y{times}", "narrow"], "scores"))
    graph += _field(5, _floats("wide", rows, width, wide)) + _field(5, _floats("one", width, width, diagonal))
    graph += _field(5, _floats("narrow", width, columns, narrow))
    graph += _field(11, _value("x", ["batch", rows])) + _field(12, _value("scores", ["batch", columns]))
    return _file(graph)


def crashing(inputs: int, *, when_opened: bool) -> bytes:
    """Return a model that ends its process by a signal, when ONNX Runtime opens it, or when it runs on a zero: the
    least whole number divided by -1."""
    cast = _field(5, _field(1, "to") + _field(3, 6) + _field(20, 2))
    back = _field(5, _field(1, "to") + _field(3, 1) + _field(20, 2))
    divided, other = ("least", "whole") if when_opened else ("sum", "least")
    nodes = [_node("Cast", ["x"], "whole") + cast, _node("Add", ["whole", other], "sum"),
             _node("Div", [divided, "minus"], "quotient"), _node("Add", ["quotient", "sum"], "all"),
             _node("Cast", ["all"], "scores") + back]  # fmt: skip
    graph = b"".join(_field(1, node) for node in nodes)
    graph += _field(5, _whole("least", -(2**31))) + _field(5, _whole("minus", -1))
    graph += _field(11, _value("x", ["batch", inputs])) + _field(12, _value("scores", ["batch", inputs]))
    return _file(graph)


def _file(graph: bytes, opset: int = 13, classes: str = "") -> bytes:
    found = _field(1, 7) + _field(7, graph + _field(2, "g")) + _field(8, _field(1, "") + _field(2, opset))
    return found + (_field(14, _field(1, "classes") + _field(2, classes)) if classes else b"")


def _node(operator: str, inputs: Sequence[str], output: str) -> bytes:
    return b"".join(_field(1, each) for each in inputs) + _field(2, output) + _field(4, operator)


def _floats(name: str, rows: int, columns: int, values: Sequence[float]) -> bytes:
    raw = struct.pack(f"<{len(values)}f", *values)
    return _field(1, rows) + _field(1, columns) + _field(2, 1) + _field(8, name) + _field(9, raw)


def _whole(name: str, value: int) -> bytes:
    return _field(1, 1) + _field(2, 6) + _field(8, name) + _field(9, struct.pack("<i", value))


def _value(name: str, shape: Iterable[int | str], dtype: int = 1) -> bytes:
    axes = b"".join(_field(1, _field(1 if isinstance(axis, int) else 2, axis)) for axis in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, dtype) + _field(2, axes)))


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
