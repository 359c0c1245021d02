"""The strategies: what replay keeps, what herding chooses, what EWC and LwF add; each against its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.incremental.adapters import learning_adapter_for
from heliograph.incremental.adapters.adapter import Terms, softmax
from heliograph.incremental.memory import Memory
from heliograph.incremental.samples import Samples, joined, samples_of
from heliograph.incremental.strategies import EWC, ICaRL, LwF, Replay, strategies_of
from heliograph.incremental.strategies.icarl import class_means, herded, unit_rows
from heliograph.incremental.strategies.replay import reservoir, share_of_each
from tests.lib.incremental.numpy_network import Network, digits

RNG = np.random.default_rng(0)


def some(count: int, classes: int = 3, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    return samples_of(rng.normal(size=(count, 4)), rng.integers(0, classes, count))


@given(st.integers(1, 60), st.integers(1, 30), st.integers(0, 60), st.booleans())
def test_a_reservoir_of_parts_is_that_of_all(count: int, size: int, cut: int, by_class: bool) -> None:
    samples = some(count)
    whole = reservoir(samples, size, by_class=by_class)
    first = reservoir(samples[:cut], size, by_class=by_class)
    later = reservoir(joined([first, samples[cut:]]), size, by_class=by_class)
    again = reservoir(joined([later, samples[:cut]]), size, by_class=by_class)  # as after a crash
    assert len(whole) == min(size, count)
    if not by_class:  # with shares of classes a class may have had less room before
        assert sorted(whole.ids()) == sorted(later.ids()) == sorted(again.ids())


def test_a_reservoir_is_even() -> None:
    samples = samples_of(np.arange(20_000).reshape(-1, 1), np.zeros(20_000))
    kept = reservoir(samples, 2000).x.reshape(-1)
    by_age = np.histogram(kept, bins=10, range=(0, 20_000))[0]
    assert abs(by_age - 200).max() < 60  # four standard deviations
    assert set(kept.tolist()) != set(reservoir(samples, 2000, seed=1).x.reshape(-1).tolist())


@given(st.dictionaries(st.integers(0, 20), st.integers(1, 50), min_size=1), st.integers(1, 200))
def test_classes_share_the_memory(counts: dict[int, int], size: int) -> None:
    shares = share_of_each(counts, size)
    assert sum(shares.values()) == min(size, sum(counts.values()))
    least = min(shares[each] for each in counts)
    for name, share in shares.items():
        assert share <= counts[name] and (share <= least + 1 or min(counts.values()) <= least)


def test_herding_follows_the_mean() -> None:
    features = unit_rows(np.random.default_rng(1).normal(size=(60, 5)))
    order = herded(features, 60)
    assert sorted(order.tolist()) == list(range(60))  # each once
    target = features.mean(0)
    for count in (1, 5, 20):  # by the definition: the next one brings the mean nearest
        before = order[: count - 1].tolist()
        distances = [np.linalg.norm(target - features[[*before, each]].mean(0)) if each not in before else np.inf
                     for each in range(60)]  # fmt: skip
        assert order[count - 1] == int(np.argmin(distances))


def test_the_head_of_icarl_answers_by_the_nearest_mean() -> None:
    network = Network(classes=5)  # the fifth has no exemplars
    x, y = digits()
    chosen = y < 4
    model = learning_adapter_for(network.weights, predict=network.scores, features=network.features)
    trained = {name: array.copy() for name, array in network.weights.items()}
    memory = ICaRL(80).finish(model, samples_of(x[chosen], y[chosen]), Memory(), RNG)
    assert memory.samples is not None and np.unique(memory.samples.y, return_counts=True)[1].tolist() == [20] * 4
    means = class_means(network.features(memory.samples.x), memory.samples.y, 4)
    nearest = np.linalg.norm(unit_rows(network.features(x))[:, None] - means[None], axis=2).argmin(1)
    assert np.array_equal(model.answers(x), nearest)
    ICaRL(80).restore(model, memory)  # the next round trains on from the trained head
    assert all(np.array_equal(network.weights[name], trained[name]) for name in trained)


def test_icarl_keeps_the_best_exemplars_where_classes_come() -> None:
    network = Network(classes=6)
    x, y = digits()
    model = learning_adapter_for(network.weights, predict=network.scores, features=network.features)
    first = ICaRL(60).finish(model, samples_of(x[y < 2], y[y < 2]), Memory(), RNG)
    then = ICaRL(60).finish(model, samples_of(x[(y > 1) & (y < 6)], y[(y > 1) & (y < 6)]), first, RNG)
    assert first.samples is not None and then.samples is not None
    for each in (0, 1):
        before, after = (m.samples[m.samples.y == each].ids() for m in (first, then))  # type: ignore[union-attr, index]
        assert len(before) == 30 and after == before[:10]


def test_the_importance_is_of_each_sample() -> None:
    network = Network(classes=10)
    x, y = digits()
    model = learning_adapter_for(network.weights, predict=network.scores, gradients=network.gradients)
    memory = EWC(samples=50).finish(model, samples_of(x[:50], y[:50]), Memory(), RNG)
    each = [network.gradients(x[place : place + 1], y[place : place + 1]) for place in range(50)]
    of_mean = network.gradients(x[:50], y[:50])
    for name, importance in memory.state_of("ewc:importance:").items():
        assert np.allclose(importance, np.mean([one[name] ** 2 for one in each], axis=0), rtol=1e-4)
        assert not np.allclose(importance, of_mean[name] ** 2, rtol=0.5)  # the common fault


def test_the_gradients_of_the_penalties_are_those_of_their_values() -> None:
    network = Network(classes=4)
    x, y = (each[:40] for each in digits())
    model = learning_adapter_for(network.weights, predict=network.scores, gradients=network.gradients)
    for name, array in network.weights.items():
        network.weights[name] = array.astype(np.float64)
    memory = EWC(30.0, samples=20).finish(model, samples_of(x, y % 4), Memory(seen=(0, 1, 3)), RNG)
    weights, scores = EWC(30.0).weight_term(model, memory), LwF(0.7).score_term(model, memory)
    assert weights is not None and scores is not None
    network.weights["w2"] += 0.1
    network.weights["b1"] -= 0.05
    only_weights, only_scores = Terms(weights=(weights,)), Terms(scores=(scores,))
    gradient = model.weight_gradients(only_weights)  # type: ignore[attr-defined]
    for name, place in (("w2", (3, 1)), ("b1", (2,))):
        slope = _slope(network.weights[name], place, lambda: model.penalty(only_weights, None, None))
        assert np.isclose(gradient[name][place], slope, rtol=1e-4)
    given = network.scores(x)
    of_scores = model.score_gradients(only_scores, x, given)  # type: ignore[attr-defined]
    assert np.isclose(of_scores[5, 1], _slope(given, (5, 1), lambda: model.penalty(only_scores, x, given)), rtol=1e-4)
    assert not of_scores[:, 2].any()  # a class that the old model has not learned


def _slope(array: Any, place: tuple[int, ...], value: Any) -> float:
    kept = array[place]
    found = []
    for each in (kept + 1e-5, kept - 1e-5):
        array[place] = each
        found.append(value())
    array[place] = kept
    return float(found[0] - found[1]) / 2e-5


def test_lwf_softens_by_its_temperature() -> None:
    network = Network(classes=3)
    x, _ = (each[:10] for each in digits())
    model = learning_adapter_for(network.weights, predict=network.scores)
    term = LwF().score_term(model, Memory(seen=(0, 1, 2)))
    assert term is not None and term.temperature == 2
    old, new = softmax(network.scores(x).astype(np.float64), 2.0), network.scores(x) + np.array([1.0, 0, -1])
    divergence = (old * np.log(old / softmax(new.astype(np.float64), 2.0))).sum(1).mean()
    assert np.isclose(model.penalty(Terms(scores=(term,)), x, new), 4 * divergence)
    assert LwF().score_term(model, Memory(seen=(1,))) is None  # one class has no scores to keep


def test_a_head_that_has_grown_keeps_its_old_part_by_ewc() -> None:
    network = Network(classes=2)
    x, y = digits()
    known = y < 2
    model = learning_adapter_for(network.weights, predict=network.scores, gradients=network.gradients)
    memory = EWC(samples=20).finish(model, samples_of(x[known], y[known]), Memory(), RNG)
    model.resize(5, RNG)
    term = EWC().weight_term(model, memory)
    assert term is not None
    gradient = model.weight_gradients(Terms(weights=(term,)))["w2"]  # type: ignore[attr-defined]
    assert gradient.shape == (32, 5) and not gradient.any()  # nothing has moved yet
    network.weights["w2"] += 1
    assert model.weight_gradients(Terms(weights=(term,)))["w2"][:, :2].any()  # type: ignore[attr-defined]
    then = EWC(samples=20).finish(model, samples_of(x[:40], y[:40] % 5), memory, RNG)
    assert then.state_of("ewc:importance:")["w2"].shape == (32, 5)


@pytest.mark.parametrize("make", [
    lambda: Replay(0), lambda: Replay(1.5), lambda: Replay(True), lambda: ICaRL(-1), lambda: EWC(0),
    lambda: EWC(float("nan")), lambda: EWC(samples=0), lambda: EWC(decay=1.5), lambda: LwF(-1),
    lambda: LwF(temperature=0), lambda: strategies_of("replay"), lambda: strategies_of([Replay(1), ICaRL(1)]),
    lambda: strategies_of([LwF(), LwF()]), lambda: strategies_of(7),
])  # fmt: skip
def test_bad_arguments_are_refused(make: Any) -> None:
    with pytest.raises(Refused) as refused:
        make()
    assert refused.value.code == "bad-argument"
