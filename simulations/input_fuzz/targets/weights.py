"""Weights: the header of a safetensors file, and the checks of an update."""

from __future__ import annotations

import json
import random  # noqa: TID251 only its type: the generator is seeded
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import LEFT_OUT, TensorFile, dumps
from heliograph.bus.contract.weights_header import check_file
from heliograph.simulations.input_fuzz.mutate import mutate_bytes, mutate_tree
from heliograph.simulations.input_fuzz.target import Target
from heliograph.simulations.input_fuzz.trees import encode_tree
from heliograph.workers.aggregation.checks import check_norm, check_weights, expected_layout, largest_size, norm_of

_DTYPES = ("float32", "float64", "float16", "int64", "int8", "uint16", "bool")


@cache
def _base() -> bytes:
    return dumps({"w": np.ones((2, 3), np.float32), "n": np.zeros((), np.int64), "e": np.zeros((0, 4), np.float64)})


def _valid(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return _base()
    if rng.random() < 0.3:  # an update without what its edge has not changed
        return dumps({"w": np.full((2, 3), rng.choice((0.5, float("inf"))), np.float32)}, LEFT_OUT)
    arrays = {f"t{number}": np.ones(rng.choice(((), (0,), (3,), (2, 2))), rng.choice(_DTYPES)) for number in range(3)}
    return dumps(arrays, {"round": "1"} if rng.random() < 0.5 else None)


def _draw(rng: random.Random) -> bytes:
    """Mutate the header's tree, its length or any byte."""
    whole = _valid(rng)
    if rng.random() < 0.3:
        return mutate_bytes(rng, whole, _valid(rng))
    length = int.from_bytes(whole[:8], "little")
    header: Any = json.loads(whole[8 : 8 + length])
    text = encode_tree(mutate_tree(rng, header, header), "json")
    text += b" " * (-len(text) % 8)
    size = len(text) if rng.random() < 0.9 else rng.choice((0, 1, 1 << 40, (1 << 64) - 1, len(text) + 8))
    return size.to_bytes(8, "little") + text + whole[8 + length :]


def _read(body: bytes, scratch: Path) -> None:
    file = scratch / "weights"
    file.write_bytes(body)
    try:
        check_file(file, WeightsRef(digest=sha256(body).hexdigest(), size=len(body)), digest=True)
        with TensorFile(file) as found:
            for name in found.tensors:
                found.numpy(name).sum()
        for base in (None, _base()):
            layout = expected_layout(TensorFile(base).tensors, ()) if base is not None else None
            for source in (file, body):
                check_norm(check_weights(source, layout, base).distance, 1e6)
                norm_of(source)
            if layout is not None:
                assert len(body) <= largest_size(layout), "accepted, and larger than the largest size"
    finally:
        file.unlink()


TARGETS = (Target("weights", _valid, _read, _draw),)
