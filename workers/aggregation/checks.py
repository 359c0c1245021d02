"""Check an update before it is used. Each refusal names what was expected and what came.

Where an update's file says so (``LEFT_OUT``), a tensor of the base that it lacks counts as unchanged. That gives an
edge no power: it could as well send the base's values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from heliograph.bus.contract import bfloat16
from heliograph.bus.contract.payloads import ModelUpdate
from heliograph.bus.contract.weights_file import CONSTANT, LEFT_OUT, beside, buffers_of, header
from heliograph.bus.contract.weights_header import NUMPY_TYPES, Tensor
from heliograph.core.errors import Refused
from heliograph.workers.aggregation.blocks import Layout, Reader, spans

if TYPE_CHECKING:
    import numpy as np

    Block = np.ndarray[Any, Any]

OTHER_METADATA = 64 * 1024
"""Bytes of metadata that another writer may put into a header."""
MAX_SAMPLES = 100_000_000
"""Bound of ``num_samples`` where the data set's size is unknown."""


class CheckedWeights(NamedTuple):
    """Weights that have passed the checks.

    Attributes:
        tensors: the tensors in their header.
        distance: L2 distance from the base, over all floating-point values; None where it was not measured.
        unchanged: whether the weights equal the base (``untrained.equals_base``).
        not_finite: names of the tensors with elements that are not finite, in the base neither.
        buffers: names of the buffers, as the file has them.
        decoded: the file of the whole weights, where they travelled encoded.
    """

    tensors: Layout
    distance: float | None = None
    unchanged: bool = False
    not_finite: frozenset[str] = frozenset()
    buffers: frozenset[str] = frozenset()
    decoded: Path | None = None


def check_claims(update: ModelUpdate, base: str | None, known_samples: int | None) -> None:
    """Check an update's claims: ``num_samples`` and its base. Raise Refused."""
    samples = update.num_samples
    most = known_samples if known_samples else MAX_SAMPLES
    if isinstance(samples, float) or not 0 < samples <= most:
        source = "the data set's size" if known_samples else "the largest plausible"
        raise Refused("num-samples", field="num_samples", expected=f"a whole number from 1 to {most}, {source}",
                      got=repr(samples))  # fmt: skip
    if update.base != base:
        raise Refused("wrong-base", field="base", expected=f"model {_short(base)}", got=f"model {_short(update.base)}")


def expected_layout(base: Layout, kinds: Sequence[str]) -> Layout:
    """Return the tensors of an update: the base's, and for each floating-point one a tensor of each kind beside it.

    Raise Refused where the base has a tensor with the name of one beside it.
    """
    found = dict(base)
    for kind in kinds:
        for name, tensor in base.items():
            if tensor.is_float:
                if beside(kind, name) in base:
                    raise Refused("keys", field="model", expected=f"no tensor named {beside(kind, name)}: the "
                                  "algorithm calls so what travels beside the weights", got="one")  # fmt: skip
                found[beside(kind, name)] = tensor
    return found


def largest_size(layout: Layout) -> int:
    """Return the most bytes that a file with the tensors of ``layout`` may have, by any writer of the format.

    A BF16 tensor may come as F32 (``check_weights``); another writer's header has spaces, escapes and metadata.
    """
    wide = {name: "F32" if each.dtype == "BF16" else each.dtype for name, each in layout.items()}
    sizes = {name: each.count * int(NUMPY_TYPES[wide[name]][2:]) for name, each in layout.items()}
    head = len(header({name: (wide[name], each.shape, sizes[name]) for name, each in layout.items()}))
    return sum(sizes.values()) + 2 * head + OTHER_METADATA


def check_size(size: int, most: int | None) -> None:
    """Raise Refused where an update declares more bytes than the base model's tensors have; None sets no bound."""
    if most is not None and size > most:
        raise Refused("size", field="weights.size", expected=f"at most {most} bytes, as the base model's tensors have",
                      got=f"{size} bytes")  # fmt: skip


def check_weights(
    source: Path | bytes, layout: Layout | None, base: Path | bytes | None = None, *, measured: bool = True
) -> CheckedWeights:
    """Check weights: keys, shapes, dtypes as in ``layout``, every value finite or as in the base, constants as there.

    NumPy has no bfloat16, so a tensor that is BF16 in the layout may come as F32; its values must be finite as BF16,
    the dtype of the result (``combine.aggregate``). Raise Refused.

    Without a layout the weights are a model's initial ones. They may have infinite values, such as a mask's.

    Args:
        base: the model that the weights were trained from.
        measured: whether to measure the distance from the base.
    """
    import numpy as np

    squares, not_finite = 0.0, set()
    with ExitStack() as opened:
        reader = opened.enter_context(closing(Reader(source)))
        start = opened.enter_context(closing(Reader(base))) if base is not None else None
        tensors = reader.tensors
        if layout is not None:
            partial = start is not None and LEFT_OUT.items() <= reader.metadata.items()
            _check_layout(tensors, layout, start.tensors if start is not None and partial else {})
        for tensor in filter(lambda each: each.name.startswith(CONSTANT), tensors.values()):
            _check_constant(reader, tensor, start)
        with np.errstate(over="ignore", invalid="ignore"):
            for tensor in filter(lambda each: each.is_float, tensors.values()):
                dtype = (layout or tensors)[tensor.name].dtype
                found = _check_values(reader, tensor, dtype, start, measured, initial=layout is None)
                squares += found.squares
                if not found.finite:
                    not_finite.add(tensor.name)
        buffers = buffers_of(reader.metadata) & tensors.keys()
    distance = math.sqrt(squares) if base is not None and measured else None
    return CheckedWeights(tensors, distance, not_finite=frozenset(not_finite), buffers=buffers)


def norm_of(source: Path | bytes) -> float:
    """Return the L2 norm of a model, over all finite floating-point values."""
    import numpy as np

    squares = 0.0
    with closing(Reader(source)) as reader, np.errstate(over="ignore", invalid="ignore"):
        for each in spans(tensor for tensor in reader.tensors.values() if tensor.is_float):
            block = reader.read(each.tensor, each.start, each.count)
            found = _squares(block)
            squares += found if math.isfinite(found) else _squares(block[np.isfinite(block)])
    return math.sqrt(squares)


def check_norm(distance: float | None, bound: float | None) -> None:
    """Raise Refused where the update is further from its base than the job allows."""
    if bound is not None and distance is not None and distance > bound:
        raise Refused("norm", field="weights", expected=f"an update of L2 norm at most {bound:g}", got=f"{distance:g}")


def _check_layout(tensors: Layout, expected: Layout, unchanged: Layout) -> None:
    """Check names, shapes and dtypes. The tensors of ``unchanged`` may be missing."""
    missing = sorted(expected.keys() - tensors.keys() - unchanged.keys())
    extra = sorted(tensors.keys() - expected.keys())
    if missing:
        raise Refused("keys", field="weights", expected=f"key {missing[0]!r}", got="none of that name")
    if extra:
        raise Refused("keys", field="weights", expected="no key beyond the base model's", got=extra[0])
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise Refused("shape", field=f"weights.{name}", expected=f"shape {expected[name].shape}", got=tensor.shape)
        allowed = ("BF16", "F32") if expected[name].dtype == "BF16" else (expected[name].dtype,)
        if tensor.dtype not in allowed:
            raise Refused("dtype", field=f"weights.{name}", expected=" or ".join(allowed), got=tensor.dtype)


def _check_constant(reader: Reader, tensor: Tensor, start: Reader | None) -> None:
    """Raise Refused where a constant differs from the base's."""
    if start is None or tensor.name not in start.tensors:
        return
    for each in spans([tensor]):
        found = reader.read(tensor, each.start, each.count)
        expected = start.read(start.tensors[tensor.name], each.start, each.count)
        if found.tobytes() != expected.tobytes():
            raise Refused("constant", field=f"weights.{tensor.name}", expected=f"{_first(expected)}, as in the base "
                          "model", got=_first(found))  # fmt: skip


def _first(block: Block) -> str:
    return str(block[:20].tolist()) + (" …" if len(block) > 20 else "")


class _Values(NamedTuple):
    """What one reading of a tensor has found: whether all is finite, and the squared distance from the base."""

    finite: bool
    squares: float


def _check_values(
    reader: Reader, tensor: Tensor, dtype: str, start: Reader | None, measured: bool, *, initial: bool
) -> _Values:
    """Check a tensor's values; its distance is 0 where the base has no tensor of its name. Read it once for both.

    Raise Refused where a value is not finite in ``dtype``, the dtype of the result, and the base has not the same one.
    """
    import numpy as np

    end = bfloat16.END if dtype == "BF16" else math.inf
    before = start.tensors.get(tensor.name) if start is not None else None
    squares, all_finite = 0.0, True
    for each in spans([tensor]):
        block = reader.read(tensor, each.start, each.count)
        # one pass at memory speed; look closer only where the sum of squares overflows or is NaN
        if not math.isfinite(np.dot(block, block)):
            finite = np.abs(block) < end
            if not finite.all():
                all_finite = False
                allowed = finite | np.isinf(block) if initial else finite
                if start is not None and before is not None:
                    allowed = finite | _same_bits(block, start.read(before, each.start, each.count))
                if not allowed.all():
                    at = each.start + int(np.flatnonzero(~allowed)[0])
                    expected = "finite values" if dtype != "BF16" else "values that are finite in BF16"
                    raise Refused("not-finite", field=f"weights.{tensor.name}", expected=expected,
                                  got=f"{block[at - each.start]} at element {at}")  # fmt: skip
        if measured and start is not None and before is not None:
            gap = start.read(before, each.start, each.count)
            np.subtract(block, gap, out=gap)
            found = float(np.dot(gap, gap))
            if not math.isfinite(found):
                base = start.read(before, each.start, each.count).astype(np.float64)
                found = _squares(np.where(np.isfinite(base), block - base, 0.0))  # a mask's elements do not move
            squares += found
    return _Values(all_finite, squares)


def _same_bits(block: Block, base: Block) -> Block:
    """Return which elements have the same bits; of another dtype none has."""
    import numpy as np

    if block.dtype != base.dtype:
        return np.zeros(block.shape, np.bool_)
    kind = f"u{block.dtype.itemsize}"
    same: Block = block.view(kind) == base.view(kind)
    return same


def _squares(block: Block) -> float:
    """Return the sum of squares of a block, in float64: it does not overflow where the values are of float32."""
    import numpy as np

    wide = block.astype(np.float64)
    return float(np.dot(wide, wide))


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"
