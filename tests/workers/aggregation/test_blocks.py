"""Block-by-block aggregation: the same bits in any order, the right values for any dtype."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract import weights_file as tensors
from heliograph.workers.aggregation import blocks
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.round_inputs import Input
from heliograph.workers.algorithms import choose

FEDAVG = choose("FedAvg", {})


def _update(seed: int, size: int = 1000) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(size=(size,)).astype(np.float32),
        "d": rng.normal(size=(3, 5)),
        "h": rng.normal(size=(7,)).astype(np.float16),
        "scalar": np.array(rng.normal(), np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "batches": np.array(int(rng.integers(0, 100)), np.int64),
        "mask": rng.integers(0, 2, 9).astype(bool),
    }


def _result(ref: Any, directory: Path) -> dict[str, Any]:
    source = ref.inline if ref.inline is not None else directory / ref.digest
    with tensors.TensorFile(source) as file:
        return {name: array.copy() for name, array in file.arrays().items()}


@settings(max_examples=30, deadline=None)
@given(
    samples=st.lists(st.integers(1, 10_000), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    threads=st.integers(1, 3),
)
def test_any_order_gives_the_same_bits(tmp_path_factory: Any, samples: list[int], order: Any, threads: int) -> None:
    directory = tmp_path_factory.mktemp("sum")
    inputs = {
        f"edge-{number}": Input(tensors.dumps(_update(number)), float(count)) for number, count in enumerate(samples)
    }
    shuffled = list(inputs.items())
    order.shuffle(shuffled)
    first = aggregate(inputs, FEDAVG, directory, threads=1).model
    again = aggregate(dict(shuffled), FEDAVG, directory, threads=threads).model
    assert first.digest == again.digest


def test_floats_are_the_weighted_mean_and_counters_rounded(tmp_path: Path) -> None:
    updates = [_update(1), _update(2), _update(3)]
    weights = [10.0, 20.0, 70.0]
    inputs = {f"e{n}": Input(tensors.dumps(each), weights[n]) for n, each in enumerate(updates)}
    found = _result(aggregate(inputs, FEDAVG, tmp_path).model, tmp_path)
    for name in ("w", "d", "h", "scalar"):
        expected = sum(
            each[name].astype(np.float64) * weight / 100 for each, weight in zip(updates, weights, strict=True)
        )
        np.testing.assert_allclose(
            found[name], expected, rtol=2e-3 if name == "h" else 1e-5, atol=1e-3 if name == "h" else 1e-6
        )
        assert found[name].dtype == updates[0][name].dtype
    mean = sum(float(each["batches"]) * weight / 100 for each, weight in zip(updates, weights, strict=True))
    assert found["batches"] == np.rint(mean)
    majority = sum(each["mask"] * weight / 100 for each, weight in zip(updates, weights, strict=True)) > 0.5
    np.testing.assert_array_equal(found["mask"], majority)
    assert found["empty"].shape == (0, 4)


def test_bfloat16_is_averaged_through_float32(tmp_path: Path) -> None:
    def bf16(values: Any) -> bytes:
        raw = (np.asarray(values, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        return tensors.header({"w": ("BF16", (len(values),), len(raw))}) + raw

    inputs = {"a": Input(bf16([1.0, -2.0, 0.5]), 1.0), "b": Input(bf16([3.0, 2.0, 1.5]), 1.0)}
    found = _result(aggregate(inputs, FEDAVG, tmp_path).model, tmp_path)["w"]
    np.testing.assert_array_equal((found.astype(np.uint32) << 16).view(np.float32), [2.0, 0.0, 1.0])


def test_more_than_a_block_and_another_order_of_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 64)
    one, two = _update(1), _update(2)
    two_reversed = dict(reversed(two.items()))
    straight = aggregate({"a": Input(tensors.dumps(one), 1), "b": Input(tensors.dumps(two), 3)}, FEDAVG, tmp_path).model
    other = aggregate(
        {"a": Input(tensors.dumps(one), 1), "b": Input(tensors.dumps(two_reversed), 3)}, FEDAVG, tmp_path
    ).model
    assert straight.digest == other.digest
    np.testing.assert_allclose(_result(straight, tmp_path)["w"], one["w"] / 4 + two["w"] * 3 / 4, rtol=1e-5, atol=1e-6)


def test_large_results_are_files_named_by_their_digest(tmp_path: Path) -> None:
    array = np.ones(200_000, np.float32)
    ref = aggregate({"a": Input(tensors.dumps({"w": array}), 1)}, FEDAVG, tmp_path).model
    assert ref.inline is None
    assert blocks.hash_file(tmp_path / ref.digest) == ref.digest
