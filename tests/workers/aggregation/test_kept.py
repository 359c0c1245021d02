"""Elements that take no part in a round: unchanged tensors, constants, and values that are not finite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.weights_file import LEFT_OUT, TensorFile, dumps
from heliograph.core.errors import Refused
from heliograph.workers.aggregation import blocks
from heliograph.workers.aggregation.checks import check_weights, expected_layout, norm_of
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.result_files import Result
from heliograph.workers.aggregation.round_inputs import INITIAL, Input, RoundStart
from heliograph.workers.algorithms import Algorithm, FedAvg, FedAvgParameters, choose

Arrays = dict[str, np.ndarray[Any, Any]]
FEDAVG = FedAvg(FedAvgParameters())
INF, NAN = np.float32(np.inf), np.float32(np.nan)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(blocks, "BLOCK", 4)
    yield


def _read(result: Result, part: str = "model", directory: Path | None = None) -> Arrays:
    ref = getattr(result, part)
    with TensorFile(ref.inline if ref.inline is not None else (directory or Path()) / ref.digest) as file:
        return {name: array.copy() for name, array in file.arrays().items()}


def _round(
    base: Arrays | None, updates: list[Arrays], directory: Path, algorithm: Algorithm = FEDAVG, **metadata: str
) -> Result:
    """Check the updates as a worker does, and combine them."""
    start = dumps(base) if base is not None else None
    layout = None
    if start is not None:
        with TensorFile(start) as file:
            layout = expected_layout(file.tensors, algorithm.beside)
    inputs = {}
    for number, update in enumerate(updates, 1):
        source = dumps(update, LEFT_OUT)
        checked = check_weights(source, layout, start)
        inputs[f"edge-{number}"] = Input(source, float(number), checked.tensors, not_finite=checked.not_finite)
    return aggregate(inputs, algorithm, directory, start=RoundStart(start) if start else INITIAL, round=1)


def _layout(content: bytes) -> Any:
    with TensorFile(content) as file:
        return file.tensors


def test_a_tensor_that_no_update_has_keeps_its_bits(tmp_path: Path) -> None:
    frozen = np.random.default_rng(0).normal(size=11).astype(np.float32)
    frozen[3], frozen[7] = NAN, -INF
    base = {"frozen": frozen, "w": np.zeros(3, np.float32), "steps": np.array(2**60 + 1)}
    found = _read(_round(base, [{"w": np.full(3, value, np.float32)} for value in (1, 4)], tmp_path))
    assert found["frozen"].tobytes() == frozen.tobytes()
    assert found["steps"] == 2**60 + 1
    np.testing.assert_allclose(found["w"], np.full(3, 3.0), rtol=1e-6)  # weights 1 and 2 of 3


def test_one_edges_unchanged_tensor_is_the_bases(tmp_path: Path) -> None:
    base = {"w": np.full(6, 10, np.float32), "n": np.array(3)}
    found = _read(_round(base, [{}, {"w": np.full(6, 40, np.float32), "n": np.array(9)}], tmp_path))
    np.testing.assert_allclose(found["w"], np.full(6, 30.0), rtol=1e-6)
    assert found["n"] == 7


def test_a_round_in_which_nobody_changed_anything_keeps_the_base(tmp_path: Path) -> None:
    base = {"w": np.linspace(0, 1, 9, dtype=np.float32)}
    assert _read(_round(base, [{}, {}], tmp_path))["w"].tobytes() == base["w"].tobytes()


def test_a_file_that_does_not_say_so_has_every_tensor() -> None:
    base = dumps({"w": np.zeros(2), "b": np.zeros(2)})
    update = {"w": np.ones(2)}
    check_weights(dumps(update, LEFT_OUT), _layout(base), base)
    with pytest.raises(Refused, match="expected key 'b'"):
        check_weights(dumps(update), _layout(base), base)
    with pytest.raises(Refused, match="expected key 'b'"):
        check_weights(dumps(update, LEFT_OUT), _layout(base))  # there is no base to fill it from


def test_a_mask_of_infinities_stays_while_the_rest_of_its_tensor_is_averaged(tmp_path: Path) -> None:
    mask = np.triu(np.full((3, 3), -INF, np.float32), 1)
    first = _read(_round(None, [{"mask": mask}], tmp_path))  # a model's initial weights
    assert first["mask"].tobytes() == mask.tobytes()
    both = _read(_round(None, [{"mask": mask}, {"mask": mask}], tmp_path))
    assert both["mask"].tobytes() == mask.tobytes()
    found = _read(_round(first, [{"mask": mask + np.float32(value)} for value in (3, 6)], tmp_path))["mask"]
    np.testing.assert_allclose(found[~np.isinf(mask)], 5.0, rtol=1e-6)
    assert (np.isneginf(found) == np.isneginf(mask)).all()


@pytest.mark.parametrize("bad", [
    {"mask": np.array([0, INF, -INF], np.float32)},  # another element than the base's
    {"mask": np.array([0, 0, INF], np.float32)},  # another infinity
    {"w": np.array([NAN], np.float32)},
])  # fmt: skip
def test_other_values_that_are_not_finite_are_refused(bad: Arrays) -> None:
    good = {"mask": np.array([0, 0, -INF], np.float32), "w": np.zeros(1, np.float32)}
    base = dumps(good)
    assert check_weights(dumps(good), _layout(base), base).not_finite == {"mask"}
    with pytest.raises(Refused, match="expected finite values"):
        check_weights(dumps({**good, **bad}), _layout(base), base)


def test_initial_weights_may_be_infinite_and_not_nan() -> None:
    assert check_weights(dumps({"m": np.array([-INF])}), None).not_finite == {"m"}
    with pytest.raises(Refused, match="got nan"):
        check_weights(dumps({"m": np.array([NAN])}), None)


def test_the_distance_and_the_norm_are_those_of_the_finite_elements() -> None:
    base = dumps({"w": np.array([3, -INF, 4], np.float32)})
    update = dumps({"w": np.array([3, -INF, 9], np.float32)})
    assert check_weights(update, _layout(base), base).distance == 5
    assert norm_of(base) == 5


def test_a_constant_is_the_bases(tmp_path: Path) -> None:
    base = {"constant:classes_": np.arange(3), "w": np.zeros(2, np.float32)}
    other = {"constant:classes_": np.array([0, 1, 7]), "w": np.ones(2, np.float32)}
    with pytest.raises(Refused, match=r"classes_: expected \[0, 1, 2\], as in the base model, got \[0, 1, 7\]"):
        _round(base, [other], tmp_path)
    found = _read(_round(None, [base, other], tmp_path))  # of several initial models the first one's
    assert found["constant:classes_"].tolist() == [0, 1, 2]


def test_a_state_goes_on_beside_a_tensor_that_nobody_changed(installed_algorithms: Any, tmp_path: Path) -> None:
    installed_algorithms()
    base = {"frozen": np.array([1, 2, -INF, 4, 5], np.float32), "w": np.zeros(5, np.float32)}
    result = _round(base, [{"w": np.ones(5, np.float32)}], tmp_path, choose("ToyMoments", {}))
    assert _read(result)["frozen"].tobytes() == base["frozen"].tobytes()
    state = _read(result, "state", tmp_path)
    assert state["m:frozen"].tolist() == [0] * 5
    assert state["m:w"].min() > 0
