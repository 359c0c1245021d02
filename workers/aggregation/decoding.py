"""Decode an update that travelled as less than whole weights: write the whole ones, block by block, for every check.

Nothing of the file is believed: names, shapes and places are compared with the base before anything is allocated, and
the file that is written is no larger than the base's tensors.
"""

from __future__ import annotations

import json
import math
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from heliograph.bus.contract import bfloat16
from heliograph.bus.contract.resources import refusal_of
from heliograph.bus.contract.resources.update_encoding import UpdateEncoding
from heliograph.bus.contract.weights_file import ENCODING, TensorFile, beside
from heliograph.bus.contract.weights_header import NUMPY_TYPES, Tensor
from heliograph.core.errors import Refused
from heliograph.workers.aggregation.blocks import Layout, Reader, Span, Writer, spans
from heliograph.workers.update_encoding import INDEX, SCALE

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

DECODED = ".decoded"
"""End of the name of a decoded update's file."""
_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "U16", "int8": "I8", None: "F32"}


def encoding_of(source: Path | bytes) -> tuple[UpdateEncoding, frozenset[str]] | None:
    """Return how an update's file is encoded, and which of its tensors are; None for whole weights.

    Raise Refused where the file's metadata say what nobody knows.
    """
    with TensorFile(source) as file:
        text, tensors = file.metadata.get(ENCODING), file.tensors.keys()
    if text is None:
        return None
    try:
        plan = json.loads(text)
        names = plan.pop("tensors")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("tensors")
        return UpdateEncoding.model_validate(plan), frozenset(names) & tensors
    except ValidationError as error:
        raise refusal_of(error, "the update's encoding") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Refused("bad-weights", field=ENCODING, expected="JSON with the encoding and its tensors",
                      got=text[:100]) from None  # fmt: skip


def decode(
    source: Path | bytes, target: Path, encoding: UpdateEncoding, encoded: frozenset[str], base: Path | bytes,
    layout: Layout,
) -> None:  # fmt: skip
    """Write the whole weights of an update to ``target``.

    Args:
        base: the model that its edge trained from, with the tensors of ``layout``.
        encoded: names of the tensors that are encoded.

    Raise Refused where a tensor does not fit the base's.
    """
    with ExitStack() as opened:
        sent = opened.enter_context(closing(Reader(source)))
        start = opened.enter_context(closing(Reader(base, layout)))
        extra = {beside(kind, name) for kind in (INDEX, SCALE) for name in encoded}
        plain = {name: each for name, each in sent.tensors.items() if name not in encoded and name not in extra}
        wide = {name: _fitting(sent, name, layout, encoding) for name in sorted(encoded)}
        shapes = {name: (each.dtype, each.shape) for name, each in plain.items()}
        shapes |= {name: ("F32" if each.dtype == "BF16" else each.dtype, each.shape) for name, each in wide.items()}
        order = dict(sorted(shapes.items(), key=lambda item: NUMPY_TYPES[item[1][0]][2:], reverse=True))
        metadata = {key: value for key, value in sent.metadata.items() if key != ENCODING}
        writer = opened.enter_context(closing(Writer(target.parent, target.name, order, metadata)))
        for each in spans(plain.values()):
            writer.write(each.tensor.name, each.start, sent.read(each.tensor, each.start, each.count))
        for name, tensor in wide.items():
            numbers = _Numbers(sent, tensor, encoding)
            for each in spans([tensor]):
                block = numbers.of(each)
                if encoding.delta:
                    block = start.read(layout[name], each.start, each.count) + block
                writer.write(name, each.start, block)
        writer.finish_as(target)


class _Numbers:
    """The decoded numbers of one tensor, block by block."""

    def __init__(self, sent: Reader, tensor: Tensor, encoding: UpdateEncoding) -> None:
        self._sent = sent
        self._tensor = tensor
        self._found = sent.tensors[tensor.name]
        self._places: Array | None = None
        self._scale: Array | None = None
        if encoding.top_k is not None:
            self._places = _whole(sent, beside(INDEX, tensor.name)).astype("<i8")
        if encoding.dtype == "int8":
            self._scale = _whole(sent, beside(SCALE, tensor.name))

    def of(self, span: Span) -> Array:
        import numpy as np

        if self._places is None:
            return self._read(span.start, span.count, span.start)
        first, last = (int(at) for at in np.searchsorted(self._places, (span.start, span.start + span.count)))
        block = np.zeros(span.count, np.float32)
        if last > first:
            block[self._places[first:last] - span.start] = self._read(first, last - first, None)
        return block

    def _read(self, start: int, count: int, element: int | None) -> Array:
        """Return numbers as float32. ``element``: the tensor's element of the first one; None where they are few, and
        share one scale."""
        import numpy as np

        raw = self._sent.read(self._found, start, count)
        if self._found.dtype == "U16":
            return bfloat16.widen(raw)
        numbers: Array = raw.astype(np.float32)
        if self._scale is not None:
            per_channel = max(1, self._tensor.count // len(self._scale))
            channels = 0 if element is None else (element + np.arange(count)) // per_channel
            numbers *= self._scale[channels]
        return numbers


def _fitting(sent: Reader, name: str, layout: Layout, encoding: UpdateEncoding) -> Tensor:
    """Return the base's tensor of that name. Raise Refused where what came of it does not fit."""
    if name not in layout or not layout[name].is_float:
        raise Refused("keys", field="weights", expected="floating-point tensors of the base model", got=name)
    tensor, found = layout[name], sent.tensors[name]
    _check(f"weights.{name}", "dtype", _TYPES[encoding.dtype], found.dtype)
    if encoding.top_k is None:
        _check(f"weights.{name}", "shape", tensor.shape, found.shape)
    else:
        places = _beside(sent, INDEX, name)
        most = math.ceil(encoding.top_k * tensor.count)
        if places.dtype not in ("U32", "U64") or places.shape != found.shape or not 0 < found.count <= max(1, most):
            expected = f"as many numbers as places, at most {max(1, most)}"
            raise Refused("shape", field=f"weights.{name}", expected=expected,
                          got=f"{found.shape} and {places.shape} of {places.dtype}")  # fmt: skip
        _check_places(_whole(sent, beside(INDEX, name)), tensor)
    if encoding.dtype == "int8":
        scale = _beside(sent, SCALE, name)
        channels = tensor.shape[0] if len(tensor.shape) > 1 and encoding.top_k is None else 1
        _check(f"weights.{beside(SCALE, name)}", "shape", ("F32", (channels,)), (scale.dtype, scale.shape))
    return tensor


def _beside(sent: Reader, kind: str, name: str) -> Tensor:
    found = sent.tensors.get(beside(kind, name))
    if found is None:
        raise Refused("keys", field="weights", expected=f"key {beside(kind, name)!r}", got="none of that name")
    return found


def _check_places(places: Array, tensor: Tensor) -> None:
    import numpy as np

    if int(places[-1]) >= tensor.count or (len(places) > 1 and not (np.diff(places.astype("<i8")) > 0).all()):
        raise Refused("bad-weights", field=f"weights.{beside(INDEX, tensor.name)}", got="others",
                      expected=f"ascending places below {tensor.count}")  # fmt: skip


def _check(field: str, code: str, expected: object, got: object) -> None:
    if expected != got:
        raise Refused(code, field=field, expected=str(expected), got=got)


def _whole(sent: Reader, name: str) -> Array:
    tensor = sent.tensors[name]
    return sent.read(tensor, 0, tensor.count)
