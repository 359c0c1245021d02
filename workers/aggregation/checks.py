"""Check an update before it is used. Each refusal names what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from heliograph.bus.contract import bfloat16
from heliograph.bus.contract.payloads import ModelUpdate
from heliograph.bus.contract.weights_file import beside, header
from heliograph.bus.contract.weights_header import NUMPY_TYPES, Tensor
from heliograph.core.errors import Refused
from heliograph.workers.aggregation.blocks import Layout, Reader, spans

OTHER_METADATA = 64 * 1024
"""Bytes of metadata that another writer may put into a header."""
MAX_SAMPLES = 100_000_000
"""Bound of ``num_samples`` where the data set's size is unknown."""


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


def check_weights(source: Path | bytes, base: Layout | None) -> Layout:
    """Check weights: keys, shapes, dtypes as in the base, every value finite. Return the tensors in their header.

    NumPy has no bfloat16, so a tensor that is BF16 in the base may come as F32; its values must be finite as BF16, the
    dtype of the result (``combine.aggregate``). Raise Refused.
    """
    import numpy as np

    reader = Reader(source)
    tensors = reader.tensors
    try:
        if base is not None:
            _check_layout(tensors, base)
        with np.errstate(over="ignore", invalid="ignore"):
            for tensor in tensors.values():
                if tensor.is_float:
                    _check_finite(reader, tensor, (base or tensors)[tensor.name].dtype)
    finally:
        reader.close()
    return tensors


def distance(source: Path | bytes, base: Path | bytes) -> float:
    """Return the L2 distance of an update from its base, over all floating-point values."""
    import numpy as np

    ours, theirs = Reader(source), Reader(base)
    try:
        total = 0.0
        for each in spans(tensor for tensor in theirs.tensors.values() if tensor.is_float):
            mine = ours.tensors[each.tensor.name]
            gap = ours.read(mine, each.start, each.count) - theirs.read(each.tensor, each.start, each.count)
            total += float(np.dot(gap.astype(np.float64), gap.astype(np.float64)))
        return math.sqrt(total)
    finally:
        ours.close()
        theirs.close()


def check_norm(source: Path | bytes, base: Path | bytes | None, bound: float | None) -> None:
    """Raise Refused where the update is further from its base than the job allows."""
    if bound is None or base is None:
        return
    norm = distance(source, base)
    if norm > bound:
        raise Refused("norm", field="weights", expected=f"an update of L2 norm at most {bound:g}", got=f"{norm:g}")


def _check_layout(tensors: Layout, base: Layout) -> None:
    missing = sorted(base.keys() - tensors.keys())
    extra = sorted(tensors.keys() - base.keys())
    if missing:
        raise Refused("keys", field="weights", expected=f"key {missing[0]!r}", got="none of that name")
    if extra:
        raise Refused("keys", field="weights", expected="no key beyond the base model's", got=extra[0])
    for name, tensor in tensors.items():
        if tensor.shape != base[name].shape:
            raise Refused("shape", field=f"weights.{name}", expected=f"shape {base[name].shape}", got=tensor.shape)
        allowed = ("BF16", "F32") if base[name].dtype == "BF16" else (base[name].dtype,)
        if tensor.dtype not in allowed:
            raise Refused("dtype", field=f"weights.{name}", expected=" or ".join(allowed), got=tensor.dtype)


def _check_finite(reader: Reader, tensor: Tensor, dtype: str) -> None:
    """Raise Refused where a value is not finite in ``dtype``, the dtype of the result."""
    import numpy as np

    end = bfloat16.END if dtype == "BF16" else math.inf
    for each in spans([tensor]):
        block = reader.read(tensor, each.start, each.count)
        # one pass at memory speed; look closer only where the sum of squares overflows or is NaN
        if not math.isfinite(np.dot(block, block)):
            finite = np.abs(block) < end
            if not finite.all():
                at = each.start + int(np.flatnonzero(~finite)[0])
                expected = "finite values" if dtype != "BF16" else "values that are finite in BF16"
                raise Refused("not-finite", field=f"weights.{tensor.name}", expected=expected,
                              got=f"{block[at - each.start]} at element {at}")  # fmt: skip


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"
