"""Prove that a file is an ONNX model in one piece, and read what it says about itself: without onnx and a runtime.

The format (onnx/onnx, ``onnx.proto``): a protocol-buffers ``ModelProto``. Only what is asked for is read; weights are
skipped, except that each is looked at for data that lie in another file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract.model_signature import ModelSignature, bad_model
from heliograph.bus.contract.protobuf_fields import Value, fields, message, signed, text
from heliograph.bus.contract.resources.model import MAX_TENSORS, TensorSchema

DTYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
          10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16"}  # fmt: skip
"""``TensorProto.DataType``."""
ONE_FILE = "Save it as one file: onnx.save(model, file, save_as_external_data=False), or in torch.onnx.export " \
    "external_data=False."  # fmt: skip
_MAX_DEPTH = 16
"""Graphs within graphs (``If``, ``Loop``), at most."""
_EXTERNAL = 1
"""``TensorProto.DataLocation``."""
_CLASS_KEYS = ("classes", "names", "labels")
"""Keys of metadata under which exporters write the names of classes; the second is that of Ultralytics."""


@dataclass(frozen=True)
class OnnxFile:
    """What an ONNX model says about itself.

    Attributes:
        opsets: version of each operator set that it uses, by domain; ONNX's own domain is the empty text.
    """

    signature: ModelSignature
    opsets: dict[str, int]
    metadata: dict[str, str]


def read_onnx(data: memoryview, name: str) -> OnnxFile:
    """Return what a model says about itself. Raise Refused, naming the file, where it is no ONNX model of one file."""
    try:
        return _read(data, name)
    except ValueError as error:
        raise bad_model(name, "an ONNX model in one piece", str(error) or "something else") from None


def _read(data: memoryview, name: str) -> OnnxFile:
    graph: memoryview | None = None
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    ir = 0
    for number, value in fields(data):
        if number == 1:
            ir = signed(value)
        elif number == 7:
            graph = message(value)
        elif number == 8:
            domain, version = "", 0
            for inner, each in fields(message(value)):
                domain, version = (text(each), version) if inner == 1 else (domain, signed(each))
            opsets[domain if domain != "ai.onnx" else ""] = version
        elif number == 14:
            key, said = _pair(message(value))
            metadata[key] = said
    if graph is None or ir < 1 or not opsets:
        raise ValueError("a file without the version, the operator sets or the graph of a model")
    weights: set[str] = set()
    inputs: list[TensorSchema] = []
    outputs: list[TensorSchema] = []
    for number, value in fields(graph):
        if number == 5:
            weights.add(_tensor(message(value), name))
        elif number == 1:
            _check_node(message(value), name, 0)
        elif number in (11, 12):
            (inputs if number == 11 else outputs).append(_value_info(message(value)))
    inputs = [each for each in inputs if each.name not in weights]  # until IR 3 weights were inputs, too
    if not (0 < len(inputs) <= MAX_TENSORS and 0 < len(outputs) <= MAX_TENSORS):
        raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs; a model has 1 to {MAX_TENSORS} of each")
    return OnnxFile(ModelSignature(tuple(inputs), tuple(outputs), _classes(metadata)), opsets, metadata)


def _check_node(node: memoryview, name: str, depth: int) -> None:
    """Look into a node's attributes: constants and graphs there have data, too."""
    for number, value in fields(node):
        if number != 5:
            continue
        for inner, each in fields(message(value)):
            if inner in (5, 10):
                _tensor(message(each), name)
            elif inner in (6, 11):
                _check_graph(message(each), name, depth + 1)


def _check_graph(graph: memoryview, name: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"graphs within graphs, more than {_MAX_DEPTH} deep")
    for number, value in fields(graph):
        if number == 5:
            _tensor(message(value), name)
        elif number == 1:
            _check_node(message(value), name, depth)


def _tensor(tensor: memoryview, name: str) -> str:
    """Return the name of a tensor. Raise Refused where its data lie in another file."""
    found = ""
    for number, value in fields(tensor):
        if number == 8:
            found = text(value)
        elif number == 13 or (number == 14 and value == _EXTERNAL):
            raise bad_model(name, "a model in one file", f"tensor {found!r}, whose data lie in another file", ONE_FILE)
    return found


def _value_info(info: memoryview) -> TensorSchema:
    """Return an input or an output: its name, its element type, and its shape. An axis with a name, or none, is -1."""
    name, dtype = "", "unknown"
    shape: list[int] = []
    for number, value in fields(info):
        if number == 1:
            name = text(value)[:1024]
        elif number == 2:
            for kind, each in fields(message(value)):
                dtype, shape = _tensor_type(message(each)) if kind == 1 else ("sequence" if kind == 4 else "map", [])
    return TensorSchema(name=name, dtype=dtype, shape=shape)


def _tensor_type(tensor: memoryview) -> tuple[str, list[int]]:
    dtype = "unknown"
    shape: list[int] = []
    for number, value in fields(tensor):
        if number == 1:
            dtype = DTYPES.get(signed(value), "unknown")
        elif number == 2:
            shape = [_axis(message(each)) for inner, each in fields(message(value)) if inner == 1]
    if len(shape) > 16:
        raise ValueError(f"a tensor of {len(shape)} axes")
    return dtype, shape


def _axis(axis: memoryview) -> int:
    return next((max(signed(value), -1) for number, value in fields(axis) if number == 1), -1)


def _pair(entry: memoryview) -> tuple[str, str]:
    found: dict[int, Value] = dict(fields(entry))
    return text(found.get(1, memoryview(b""))), text(found.get(2, memoryview(b"")))


def _classes(metadata: dict[str, str]) -> tuple[str, ...]:
    return next((found for key in _CLASS_KEYS if (found := tuple(_names(metadata.get(key, ""))))), ())


def _names(said: str) -> Iterator[str]:
    """Yield the names of classes in metadata: a JSON list, a JSON mapping of indices, or words between commas."""
    try:
        tree: Any = json.loads(said)
    except (ValueError, RecursionError):
        tree = [each.strip() for each in said.split(",")] if "," in said and "{" not in said else []
    if isinstance(tree, dict) and all(key.isdigit() for key in tree) and len(tree) <= 1024:
        tree = [tree[key] for key in sorted(tree, key=int)]
    listed: Sequence[Any] = tree if isinstance(tree, list) and len(tree) <= 1024 else ()
    yield from (each[:1024] for each in listed if isinstance(each, str))
