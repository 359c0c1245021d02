"""Two algorithms of an outside package: their inputs, state, tensors sent down, and models of each edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import TensorFile, beside, dumps
from heliograph.core.errors import Refused
from heliograph.workers.aggregation import blocks
from heliograph.workers.aggregation.checks import check_norm, check_weights, expected_layout
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.result_files import Result
from heliograph.workers.aggregation.round_inputs import Input, RoundStart
from heliograph.workers.algorithms import Algorithm, choose

Arrays = dict[str, Any]
SIZE = 300


@pytest.fixture(autouse=True)
def toys(installed_algorithms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    installed_algorithms()
    monkeypatch.setattr(blocks, "BLOCK", 64)  # several blocks, the last one shorter


def _weights(seed: int, scale: float = 1.0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "w": (scale * rng.normal(size=SIZE)).astype(np.float32),
        "d": scale * rng.normal(size=(2, 5)),
        "batches": np.array(seed, np.int64),
    }


def _with_control(arrays: Arrays, value: float) -> Arrays:
    kinds = {beside("control", name): np.full_like(arrays[name], value) for name in ("w", "d")}
    return arrays | kinds


def _read(ref: WeightsRef | None, directory: Path) -> Arrays:
    assert ref is not None
    with TensorFile(ref.inline if ref.inline is not None else directory / ref.digest) as file:
        return {name: array.copy() for name, array in file.arrays().items()}


def _path(ref: WeightsRef | None, directory: Path) -> Path:
    assert ref is not None and ref.inline is None
    return directory / ref.digest


def _moments(steps: int, directory: Path, threads: int = 1, reverse: bool = False) -> tuple[list[Result], Arrays]:
    """Run rounds of ToyMoments over the same changes; yield each result with that of plain NumPy on whole arrays."""
    algorithm, found = choose("ToyMoments", {"server_rate": 0.25}), list[Result]()
    base = _weights(0)
    m = {name: np.zeros_like(base[name]) for name in ("w", "d")}
    v = {name: np.full_like(base[name], 1e-6) for name in ("w", "d")}
    state: Path | None = None
    for step in range(1, steps + 1):
        changes = {edge: _weights(10 * step + edge, 0.1) for edge in (1, 2)}
        updates = {
            f"edge-{edge}": {name: base[name] + change[name] for name in base} for edge, change in changes.items()
        }
        inputs = {edge: Input(dumps(arrays), 10.0) for edge, arrays in updates.items()}
        if reverse:
            inputs = dict(reversed(inputs.items()))
        before = RoundStart(dumps(base), state=state)
        result = aggregate(inputs, algorithm, directory, threads, start=before, round=step, metadata={"step": "1"})
        found.append(result)
        state = _path(result.state, directory)
        expected: Arrays = {}
        for name in ("w", "d"):
            half = base[name].dtype.type(0.5)
            change = updates["edge-1"][name] * half + updates["edge-2"][name] * half - base[name]
            m[name] = 0.9 * m[name] + 0.1 * change
            v[name] = 0.99 * v[name] + 0.01 * change * change
            expected[name] = base[name] + 0.25 * (m[name] / (1 - 0.9**step)) / (np.sqrt(v[name]) + 1e-3)
        base = _read(result.model, directory)
        for name, array in expected.items():
            np.testing.assert_array_equal(base[name], array)
    return found, m


def test_moments_are_kept_from_round_to_round(tmp_path: Path) -> None:
    found, m = _moments(3, tmp_path)
    state = _read(found[-1].state, tmp_path)
    assert state["step"] == 3
    np.testing.assert_array_equal(state["m:w"], m["w"])
    assert (state["m:w"].dtype, state["v:d"].dtype, state["m:d"].shape) == (np.float32, np.float64, (2, 5))
    assert "m:batches" not in state
    assert found[-1].down is None and not found[-1].personal


@settings(max_examples=5, deadline=None)
@given(threads=st.integers(1, 3), reverse=st.booleans())
def test_threads_and_order_change_no_bit_of_model_and_state(tmp_path_factory: Any, threads: int, reverse: bool) -> None:
    one = _moments(2, tmp_path_factory.mktemp("one"))[0]
    other = _moments(2, tmp_path_factory.mktemp("other"), threads, reverse)[0]
    assert [(each.model, each.state) for each in one] == [(each.model, each.state) for each in other]


def test_the_first_model_is_the_mean_for_every_algorithm(tmp_path: Path) -> None:
    inputs = {"a": Input(dumps({"w": np.zeros(3)}), 1.0), "b": Input(dumps({"w": np.ones(3)}), 1.0)}
    for name in ("ToyMoments", "ToyClusters"):
        result = aggregate(inputs, choose(name, {}), tmp_path)
        assert result == replace(Result(), model=result.model)
        np.testing.assert_array_equal(_read(result.model, tmp_path)["w"], [0.5, 0.5, 0.5])


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    result = _moments(1, tmp_path)[0][0]
    other = dumps({"w": np.zeros(SIZE + 1, np.float32)})
    before = RoundStart(other, state=_path(result.state, tmp_path))
    with pytest.raises(Refused, match=r"field state\.m:w"):
        aggregate({"a": Input(other, 1.0)}, choose("ToyMoments", {}), tmp_path, start=before, round=2)


def _clustered(updates: Mapping[str, bytes], directory: Path, **parameters: float) -> Result:
    algorithm = choose("ToyClusters", parameters)
    inputs = {edge: Input(content, 10.0) for edge, content in updates.items()}
    return aggregate(inputs, algorithm, directory, start=RoundStart(dumps(_weights(0))), round=1, asked=len(inputs))


def test_each_edge_gets_the_mean_of_its_neighbours(tmp_path: Path) -> None:
    near, far = _weights(1), _weights(2, 5.0)
    shifted = {**near, "w": near["w"] + np.float32(0.01)}
    updates = {
        "edge-1": dumps(_with_control(near, 1.0)),
        "edge-2": dumps(_with_control(far, 2.0)),
        "edge-3": dumps(_with_control(shifted, 6.0)),
    }
    result = _clustered(updates, tmp_path)
    own = {edge: _read(ref, tmp_path) for edge, ref in result.personal.items()}
    assert set(own) == {"edge-1", "edge-2", "edge-3"}
    np.testing.assert_allclose(own["edge-1"]["w"], (near["w"] + shifted["w"]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(own["edge-1"]["w"], own["edge-3"]["w"])
    np.testing.assert_array_equal(own["edge-2"]["w"], far["w"])
    np.testing.assert_array_equal(own["edge-2"]["d"], far["d"])
    assert own["edge-2"]["batches"] == _read(result.model, tmp_path)["batches"]  # counters are the same for every edge
    assert len({ref.digest for ref in result.personal.values()}) == 3  # equal weights, but a file for each edge
    down = _read(result.down, tmp_path)
    np.testing.assert_allclose(down["control:w"], np.full(SIZE, 3.0), rtol=1e-6)
    assert down["counted"] == 3
    assert result.state is None


def test_an_excluded_update_is_in_no_result(tmp_path: Path) -> None:
    near, far = _weights(1), _weights(2, 50.0)
    updates = {
        "edge-1": dumps(_with_control(near, 1.0)),
        "edge-2": dumps(_with_control(far, 2.0)),
        "edge-3": dumps(_with_control(near, 3.0)),
    }
    result = _clustered(updates, tmp_path, far=1.0)
    assert set(result.excluded) == {"edge-2"} and "from the nearest other one" in result.excluded["edge-2"]
    assert set(result.personal) == {"edge-1", "edge-3"}
    np.testing.assert_allclose(_read(result.model, tmp_path)["w"], near["w"], rtol=1e-6)
    np.testing.assert_allclose(_read(result.down, tmp_path)["control:w"], np.full(SIZE, 2.0), rtol=1e-6)
    strangers = {edge: updates[edge] for edge in ("edge-1", "edge-2")}
    nobody = _clustered(strangers, tmp_path, far=1.0)
    assert nobody.model is None and set(nobody.excluded) == set(strangers)
    assert not list(tmp_path.glob("*.new"))


def test_tensors_beside_the_weights_are_checked_as_the_weights_are() -> None:
    algorithm: Algorithm = choose("ToyClusters", {})
    base = dumps(_weights(0))
    with TensorFile(base) as file:
        layout = expected_layout(file.tensors, algorithm.beside)
    good = dumps(_with_control(_weights(1), 1e6))
    check_norm(check_weights(good, layout, base).distance, 100.0)  # applies to the weights alone
    for arrays, reason in (
        (_weights(1), "expected key 'control:d', got none"),
        (_with_control(_weights(1), np.nan), "expected finite values"),
        (_with_control(_weights(1), 1.0) | {"control:batches": np.array(1)}, "no key beyond"),
        (_with_control(_weights(1), 1.0) | {"control:w": np.zeros(3, np.float32)}, "expected shape"),
    ):
        with pytest.raises(Refused, match=reason):
            check_weights(dumps(arrays), layout)


def test_a_model_whose_tensor_is_named_like_one_beside_it_is_refused() -> None:
    with TensorFile(dumps({"w": np.zeros(2), "control:w": np.zeros(2)})) as file, pytest.raises(Refused, match="named"):
        expected_layout(file.tensors, ("control",))
