"""Training of a scenario's edges learns, is deterministic, and models byzantine edges."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.payloads import ModelUpdate
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.core.errors import Refused
from heliograph.simulations.scenario.document import Data
from heliograph.simulations.scenario.learning import Learning
from heliograph.simulations.scenario.samples import Samples
from heliograph.workers.aggregation.checks import check_claims, check_weights

EDGES = [f"edge-{number + 1}" for number in range(8)]
SMALL = {"hidden": 16, "learning_rate": 0.1, "local_epochs": 2, "min_node_number": 1}


def _learning(edges: list[str] = EDGES, seed: int = 1, **data: Any) -> Learning:
    return Learning(Samples(Data(**{"set": "synthetic", **data}), edges, seed), 0.01, seed)


def _rounds(learning: Learning, rounds: int, setting: dict[str, Any], edges: list[str] = EDGES) -> float:
    weights = dict(learning.initial(edges[0], setting).arrays)
    for round in range(1, rounds + 1):
        made = [learning.train(edge, round, weights, setting) for edge in edges]
        total = sum(each.num_samples for each in made)
        weights = {name: sum(each.arrays[name] * np.float32(each.num_samples / total) for each in made)
                   for name in weights}  # fmt: skip
    return learning.evaluate(weights, setting).metrics["accuracy"]


@pytest.mark.quality
@pytest.mark.parametrize("hidden", [0, 16])
def test_federated_averaging_learns(hidden: int) -> None:
    accuracy = _rounds(_learning(samples=1600), 12, {**SMALL, "hidden": hidden})
    assert accuracy > 0.75


@pytest.mark.quality
def test_digits_learn_too() -> None:
    assert _rounds(_learning(set="digits", partition="dirichlet:1"), 15, {**SMALL, "learning_rate": 0.3}) > 0.85


def test_the_same_arguments_give_the_same_bits() -> None:
    one, other = _learning(), _learning()
    weights = one.initial("edge-3", SMALL).arrays
    first, again = one.train("edge-3", 4, weights, SMALL), other.train("edge-3", 4, weights, SMALL)
    assert dumps(first.arrays) == dumps(again.arrays)
    assert first.metrics == again.metrics
    assert dumps(_learning(seed=2).train("edge-3", 4, weights, SMALL).arrays) != dumps(first.arrays)


def test_samples_of_ten_thousand_edges_are_drawn_only_for_training() -> None:
    edges = [f"edge-{number + 1}" for number in range(10_000)]
    large = {"hidden": 340, "learning_rate": 0.1}
    tracemalloc.start()
    try:
        learning = _learning(edges, held_out=100)
        weights = learning.initial(edges[0], large).arrays
        for edge in edges[:10]:
            learning.train(edge, 1, weights, large)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 100_000 < len(dumps(weights)) < 110_000
    assert peak < 40_000_000  # the samples of all edges are 82 MB


@pytest.mark.parametrize("behaviour", ["nan", "wrong-shape", "huge-num-samples"])
def test_unreadable_and_absurd_updates_are_refused_by_the_shipped_checks(behaviour: Any) -> None:
    learning = _learning()
    weights = dict(learning.initial("edge-1", SMALL).arrays)
    base = TensorFile(dumps(weights)).tensors
    learning.set_behaviour("edge-1", behaviour)
    made = learning.train("edge-1", 1, weights, SMALL)
    update = ModelUpdate(job="a", job_uid="u", round=1, edge="edge-1", num_samples=made.num_samples,
                         weights={"digest": "0" * 64, "size": 1})  # type: ignore[arg-type]  # fmt: skip
    with pytest.raises(Refused):
        check_claims(update, None, None)
        check_weights(dumps(made.arrays), base)
    learning.set_behaviour("edge-1", None)
    check_weights(dumps(learning.train("edge-1", 1, weights, SMALL).arrays), base)


def test_wrong_updates_go_the_other_way_or_too_far() -> None:
    learning = _learning()
    weights = dict(learning.initial("edge-1", SMALL).arrays)
    honest = learning.train("edge-1", 1, weights, SMALL).arrays["w2"] - weights["w2"]
    for behaviour, amount, factor in (("sign-flip", 1.0, -1), ("scale", 10.0, 10)):
        learning.set_behaviour("edge-1", behaviour, amount)  # type: ignore[arg-type]
        corrupted = learning.train("edge-1", 1, weights, SMALL).arrays["w2"] - weights["w2"]
        assert np.allclose(corrupted, factor * honest, rtol=1e-3, atol=1e-5)
    learning.set_behaviour("edge-1", "label-flip")
    assert not np.allclose(learning.train("edge-1", 1, weights, SMALL).arrays["w2"] - weights["w2"], honest, rtol=0.1)


def test_a_straggler_and_an_edge_without_memory_take_longer() -> None:
    learning = Learning(Samples(Data(set="synthetic"), EDGES, 1), 0.01, 1, {"edge-2": 32, "edge-3": 512})
    weights = learning.initial("edge-1", SMALL).arrays
    usual = learning.train("edge-1", 1, weights, SMALL).seconds
    assert usual == pytest.approx(0.2 + 32 * 2 * 0.01)
    assert learning.train("edge-2", 1, weights, SMALL).seconds == pytest.approx(10 * usual)
    assert learning.train("edge-3", 1, weights, SMALL).seconds == pytest.approx(usual)
    learning.set_slowdown("edge-1", 4.0)
    assert learning.train("edge-1", 1, weights, SMALL).seconds == pytest.approx(4 * usual)
