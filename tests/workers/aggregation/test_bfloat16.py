"""bfloat16, which NumPy lacks: a BF16 model accepts updates widened to F32, and stays BF16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import weights_file as tensors
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.bus.contract.weights_header import Tensor
from heliograph.core.errors import Refused
from heliograph.workers.aggregation.checks import check_norm, check_weights
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.round_inputs import Input, RoundStart
from heliograph.workers.algorithms import choose

FEDAVG = choose("FedAvg", {})
LARGEST = np.uint32(0x7F7F0000).view(np.float32)
"""The largest bfloat16."""


def _bf16(**values: list[float]) -> bytes:
    """Return a safetensors file of BF16 tensors; every value must be a bfloat16."""
    raw = {name: (np.asarray(each, np.float32).view(np.uint32) >> 16).astype("<u2") for name, each in values.items()}
    layout = {name: ("BF16", each.shape, each.nbytes) for name, each in raw.items()}
    return tensors.header(layout) + b"".join(each.tobytes() for each in raw.values())


def _f32(**values: Any) -> bytes:
    return tensors.dumps({name: np.asarray(each, np.float32) for name, each in values.items()})


def _layout(file: bytes) -> dict[str, Tensor]:
    with TensorFile(file) as opened:
        return dict(opened.tensors)


def _result(updates: dict[str, bytes], base: bytes | None, directory: Path) -> tuple[str, list[float]]:
    """Aggregate updates of equal weight; return dtype and values of the tensor ``w``."""
    inputs = {edge: Input(file, 1.0) for edge, file in updates.items()}
    ref = aggregate(inputs, FEDAVG, directory, start=RoundStart(base)).model
    assert ref is not None and ref.inline is not None
    with TensorFile(ref.inline) as file:
        tensor, bits = file.tensors["w"], file.numpy("w")
    values = (bits.astype(np.uint32) << 16).view(np.float32) if tensor.dtype == "BF16" else bits
    return tensor.dtype, values.tolist()


BASE = _bf16(w=[1.0, 2.0, 3.0])


@pytest.mark.parametrize("update", [_f32(w=[3.0, 0.0, 4.0]), _bf16(w=[3.0, 0.0, 4.0])], ids=["F32", "BF16"])
def test_a_bf16_base_accepts_both_dtypes_as_the_same_values(update: bytes) -> None:
    assert check_weights(update, _layout(BASE)).tensors["w"].shape == (3,)
    check_norm(check_weights(update, _layout(BASE), BASE).distance, 3.0001)  # the distance is (2, -2, 1)
    with pytest.raises(Refused, match=r"L2 norm at most 2\.9"):
        check_norm(check_weights(update, _layout(BASE), BASE).distance, 2.9)


def test_no_other_dtype_stands_for_another() -> None:
    for update, base in (
        (tensors.dumps({"w": np.zeros(3, np.float16)}), BASE),
        (tensors.dumps({"w": np.zeros(3, np.uint16)}), BASE),
        (_bf16(w=[1.0, 2.0, 3.0]), _f32(w=[1.0, 2.0, 3.0])),
        (_f32(w=[1.0, 2.0, 3.0]), tensors.dumps({"w": np.zeros(3, np.float16)})),
    ):
        with pytest.raises(Refused) as refused:
            check_weights(update, _layout(base))
        assert refused.value.code == "dtype"
    with pytest.raises(Refused, match="expected BF16 or F32, got U16"):
        check_weights(tensors.dumps({"w": np.zeros(3, np.uint16)}), _layout(BASE))


def test_a_value_that_would_be_infinite_in_bf16_is_refused() -> None:
    within, beyond = np.float32(3.396e38), np.float32(3.3961776e38)
    assert np.isfinite(beyond)
    check_weights(_f32(w=[0.0, within, 0.0]), _layout(BASE))
    check_weights(_f32(w=[0.0, beyond, 0.0]), _layout(_f32(w=[0.0, 0.0, 0.0])))  # the value fits into float32
    for value in (beyond, -beyond, np.float32("nan"), np.float32("inf")):
        with pytest.raises(Refused, match=r"weights\.w: expected values that are finite in BF16.* at element 1"):
            check_weights(_f32(w=[0.0, value, 0.0]), _layout(BASE))


def test_the_result_has_the_dtype_of_the_base(tmp_path: Path) -> None:
    wide, narrow = _f32(w=[3.0, 0.0, 5.0]), _bf16(w=[1.0, 2.0, 3.0])
    for updates in ({"a": wide, "b": wide}, {"a": wide, "b": narrow}, {"a": narrow, "b": wide}):
        dtype, _ = _result(updates, BASE, tmp_path)
        assert dtype == "BF16"
    assert _result({"a": wide, "b": narrow}, BASE, tmp_path)[1] == [2.0, 1.0, 4.0]
    assert _result({"a": wide, "b": wide}, None, tmp_path)[0] == "F32"
    assert _result({"a": narrow, "b": narrow}, None, tmp_path)[0] == "BF16"


def test_the_sum_is_rounded_once_to_the_nearest_even(tmp_path: Path) -> None:
    step = 2.0**-7  # between 1 and 2
    # rounded one by one, the first two would be 1 and 1 + step, with their mean a tie rounded to 1
    rounded = _result(
        {"a": _f32(w=[1.0, 1.0, 1.0]), "b": _f32(w=[1 + 1.1 * step, 1 + step, 1 + 3 * step])}, BASE, tmp_path
    )
    assert rounded == ("BF16", [1 + step, 1.0, 1 + 2 * step])
    _, values = _result({"a": _f32(w=[3.396e38, -3.396e38, 0.0])}, BASE, tmp_path)
    assert values == [LARGEST, -LARGEST, 0.0]


def test_a_result_narrower_than_its_updates_is_laid_out_as_the_base(tmp_path: Path) -> None:
    base = _bf16(w=[1.0, 2.0, 3.0], a=[0.5])
    update = _f32(a=[0.25], w=[2.0, 4.0, 6.0])
    ref = aggregate({"a": Input(update, 1.0)}, FEDAVG, tmp_path, start=RoundStart(base)).model
    assert ref is not None and ref.inline is not None
    assert _layout(ref.inline) == _layout(base)
    assert ref.inline == _bf16(w=[2.0, 4.0, 6.0], a=[0.25])
