"""An update that equals its base bit by bit is told from one that training has changed, however little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.workers.aggregation.blocks import BLOCK, Layout
from heliograph.workers.aggregation.untrained import equals_base

BASE = {"w": np.arange(BLOCK + 5, dtype=np.float32), "h": np.ones(4, np.float16), "n": np.array(3)}


def _layout(weights: bytes) -> Layout:
    with TensorFile(weights) as file:
        return dict(file.tensors)


def _equal(update: dict[str, Any], base: dict[str, Any] = BASE) -> bool:
    one, other = dumps(update), dumps(base)
    return equals_base(one, _layout(one), other, _layout(other))


def _changed(name: str, index: int, value: float) -> dict[str, Any]:
    array = BASE[name].copy()
    array[index] = value
    return BASE | {name: array}


@pytest.mark.parametrize(
    ("update", "same"),
    [
        (BASE, True),
        ({"n": BASE["n"], "h": BASE["h"], "w": BASE["w"]}, True),  # its tensors may have another order
        (BASE | {"n": np.array(9)}, True),  # a counter that was counted up is no training
        (BASE | {"control:w": np.ones(3, np.float32)}, True),  # what travels beside the weights is no training either
        ({"n": BASE["n"], "h": BASE["h"]}, True),  # what is left out is unchanged
        (_changed("w", BLOCK + 4, 0.5), False),  # in the last block
        (_changed("h", 3, 1.001), False),
        (_changed("w", 0, 1e-45), False),  # its square is 0
    ],
)
def test_only_an_update_whose_weights_have_the_bases_bits_is_unchanged(update: dict[str, Any], same: bool) -> None:
    assert _equal(update) == same


def test_values_that_are_no_numbers_have_bits_all_the_same() -> None:
    mask = {"mask": np.array([-np.inf, np.nan, 0.0])}
    assert _equal(mask, mask)


def test_a_model_of_integers_alone_is_compared_by_them() -> None:
    counts = {"counts": np.arange(4)}
    assert _equal(counts, counts)
    assert not _equal({"counts": np.arange(1, 5)}, counts)
    assert not _equal({}, {})  # a model without tensors has nothing to train


def test_files_are_compared_as_bytes_are(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(dumps(BASE))
    other.write_bytes(dumps(_changed("w", BLOCK + 4, 0.5)))
    layout = _layout(dumps(BASE))
    assert equals_base(one, layout, one, layout)
    assert not equals_base(other, layout, one, layout)
