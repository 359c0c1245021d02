"""Robust rules against loops over whole arrays, and against edges that send anything."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.workers.aggregation import blocks
from heliograph.workers.algorithms import choose
from heliograph.workers.algorithms.bulyan import selection
from heliograph.workers.algorithms.differences import squared_distances
from heliograph.workers.algorithms.krum import krum_scores
from heliograph.workers.algorithms.rfa import median_weights
from tests.workers.algorithms.rounds import BUFFER, FLOATS, Arrays, Played, moved, read, weights

RULES: list[tuple[str, dict[str, Any]]] = [
    ("Median", {"byzantine": 2}),
    ("TrimmedMean", {"trimmed": 2}),
    ("Krum", {"byzantine": 2}),
    ("MultiKrum", {"byzantine": 2}),
    ("Bulyan", {"byzantine": 2}),
    ("RFA", {"byzantine": 2}),
    ("NormClipping", {}),
]
EDGES = 11


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 64)


def _updates(base: Arrays, number: int = EDGES) -> dict[str, Arrays]:
    return {f"edge-{edge:02}": moved(base, 7 + edge) for edge in range(number)}


def _flat(arrays: Arrays, base: Arrays) -> Any:
    names = (*FLOATS, BUFFER)
    return np.concatenate([(arrays[name].astype(np.float64) - base[name]).reshape(-1) for name in names])


def _played(name: str, parameters: dict[str, Any], updates: dict[str, Arrays], directory: Path) -> Arrays:
    played = Played(choose(name, parameters), directory, weights(0))
    played.round(updates)
    return played.base


def _stack(updates: dict[str, Arrays], name: str) -> Any:
    return np.stack([each[name].astype(np.float64) for each in updates.values()])


@pytest.mark.parametrize("number", [5, 6])
def test_the_median_is_of_each_coordinate(tmp_path: Path, number: int) -> None:
    updates = _updates(weights(0), number)
    found = _played("Median", {"byzantine": 2}, updates, tmp_path)
    for name in (*FLOATS, BUFFER):
        ordered = np.sort(_stack(updates, name), axis=0)
        expected = (ordered[(number - 1) // 2] + ordered[number // 2]) / 2
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)


def test_the_trimmed_mean_leaves_out_both_ends(tmp_path: Path) -> None:
    updates = _updates(weights(0))
    found = _played("TrimmedMean", {"trimmed": 3}, updates, tmp_path)
    for name in (*FLOATS, BUFFER):
        expected = np.sort(_stack(updates, name), axis=0)[3:-3].mean(axis=0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-7)


def _scores(rows: list[Any], byzantine: int) -> list[float]:
    found = []
    for at, row in enumerate(rows):
        apart = sorted(float(((row - other) ** 2).sum()) for to, other in enumerate(rows) if to != at)
        found.append(sum(apart[: len(rows) - byzantine - 2]))
    return found


def test_krum_takes_the_update_nearest_to_its_neighbours(tmp_path: Path) -> None:
    base = weights(0)
    updates = _updates(base)
    scores = _scores([_flat(each, base) for each in updates.values()], 2)
    winner = list(updates.values())[int(np.argmin(scores))]
    found = _played("Krum", {"byzantine": 2}, updates, tmp_path)
    for name in (*FLOATS, BUFFER, "batches"):
        np.testing.assert_array_equal(found[name], winner[name])


@pytest.mark.parametrize("selected", [None, 3])
def test_multikrum_takes_the_mean_of_the_best(tmp_path: Path, selected: int | None) -> None:
    base = weights(0)
    updates = _updates(base)
    scores = _scores([_flat(each, base) for each in updates.values()], 2)
    best = np.argsort(scores, kind="stable")[: selected or EDGES - 2]
    found = _played("MultiKrum", {"byzantine": 2, "selected": selected}, updates, tmp_path)
    for name in (*FLOATS, BUFFER):
        np.testing.assert_allclose(found[name], _stack(updates, name)[best].mean(axis=0), rtol=1e-5, atol=1e-7)


def _bulyan(rows: list[Any], byzantine: int) -> list[int]:
    left, chosen = list(range(len(rows))), []
    while len(chosen) < len(rows) - 2 * byzantine:
        scores = []
        for at in left:
            apart = sorted(float(((rows[at] - rows[to]) ** 2).sum()) for to in left if to != at)
            scores.append(sum(apart[: max(len(left) - byzantine - 2, 1)]))
        chosen.append(left.pop(int(np.argmin(scores))))
    return chosen


def test_bulyan_takes_the_middle_of_what_krum_selects_again_and_again(tmp_path: Path) -> None:
    base = weights(0)
    updates = _updates(base)
    chosen = _bulyan([_flat(each, base) for each in updates.values()], 2)
    found = _played("Bulyan", {"byzantine": 2}, updates, tmp_path)
    for name in (*FLOATS, BUFFER):
        stacked = _stack(updates, name)[sorted(chosen)]
        kept = len(chosen) - 4
        nearest = np.argsort(np.abs(stacked - np.median(stacked, axis=0)), axis=0, kind="stable")[:kept]
        expected = np.take_along_axis(stacked, nearest, axis=0).mean(axis=0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-7)


def test_bulyan_selects_by_new_scores_each_time() -> None:
    """Three updates stand close together. The smallest scores of one pass would be theirs and their neighbours'."""
    points = np.array([0.0, 0.0, 0.0, 3.0, 3.9, 4.9, 6.1, 7.7, 9.2, 20.0, 30.0])[:, None]
    apart = squared_distances(points @ points.T)
    one_pass = sorted(int(at) for at in np.argsort(krum_scores(apart, 2), kind="stable")[:7])
    again = selection(apart, 2)
    assert sorted(again) == sorted(_bulyan(list(points), 2))
    assert sorted(again) != one_pass


def test_rfa_is_the_geometric_median_of_whole_updates(tmp_path: Path) -> None:
    base = weights(0)
    updates = _updates(base, 5) | {"edge-99": moved(base, 3, scale=0.8)}
    found = _flat(_played("RFA", {"norm_factor": 0}, updates, tmp_path), base)
    rows = [_flat(each, base) for each in updates.values()]

    def total(point: Any) -> float:
        return sum(float(np.linalg.norm(point - row)) for row in rows)

    z = np.mean(rows, axis=0)
    for _ in range(2000):  # Weiszfeld's steps on whole arrays
        pull = [1 / max(float(np.linalg.norm(z - row)), 1e-6) for row in rows]
        z = sum(each * row for each, row in zip(pull, rows, strict=True)) / sum(pull)
    np.testing.assert_allclose(found, z, rtol=1e-3, atol=1e-6)
    assert total(found) <= total(np.mean(rows, axis=0)) and total(found) <= min(map(total, rows)) + 1e-6


@pytest.mark.parametrize("far", [1e3, 1e9, 1e18])
def test_the_geometric_median_holds_however_far_an_update_is(far: float) -> None:
    rows = np.random.default_rng(1).normal(size=(5, 20))
    apart = median_weights(np.vstack([rows, far * rows[:1]]) @ np.vstack([rows, far * rows[:1]]).T, 1e-6, 1000, 1e-12)
    assert apart[-1] * far < 10 * np.abs(rows).max()
    assert abs(apart.sum() - 1) < 1e-12


def test_clipping_bounds_each_change(tmp_path: Path) -> None:
    base = weights(0)
    updates = _updates(base, 4)
    rows = np.stack([_flat(each, base) for each in updates.values()])
    norms = np.linalg.norm(rows, axis=1)
    for parameters, bound in (({"clip_norm": 0.5}, 0.5), ({}, float(np.median(norms))), ({"clip_norm": 1e6}, 1e6)):
        expected = (rows * np.minimum(1, bound / norms)[:, None]).mean(axis=0)
        found = _flat(_played("NormClipping", parameters, updates, tmp_path), base)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule, parameters", RULES)
def test_a_rule_holds_against_edges_that_send_anything(tmp_path: Path, rule: str, parameters: dict[str, Any]) -> None:
    """The result stays among the honest updates, also in the buffers."""
    base = weights(0)
    honest = _updates(base, EDGES - 2)
    names = (*FLOATS, BUFFER)
    attacks = {
        "flipped": [{n: base[n] - 10 * (each[n] - base[n]) for n in base} for each in list(honest.values())[:2]],
        "thousandfold": [moved(base, 50 + each, scale=100.0) for each in range(2)],
        "together": [{n: base[n] + (base[n].dtype.type(1) if n != "batches" else 0) for n in base}] * 2,
    }
    for attackers in attacks.values():
        updates = honest | {f"bad-{at}": each for at, each in enumerate(attackers)}
        found = _flat(_played(rule, {**parameters, "norm_factor": 0}, updates, tmp_path), base)
        rows = np.stack([_flat(each, base) for each in honest.values()])
        spread = np.linalg.norm(rows - rows.mean(axis=0), axis=1).max()
        assert np.linalg.norm(found - rows.mean(axis=0)) <= spread, names
        if rule in ("Median", "TrimmedMean", "Bulyan"):
            assert (found >= rows.min(axis=0) - 1e-6).all() and (found <= rows.max(axis=0) + 1e-6).all()


@pytest.mark.parametrize("rule, parameters, least", [
    ("Median", {"byzantine": 2}, 5), ("TrimmedMean", {"trimmed": 2}, 5), ("Krum", {"byzantine": 2}, 7),
    ("MultiKrum", {"byzantine": 1}, 5), ("Bulyan", {"byzantine": 1}, 7), ("RFA", {"byzantine": 1}, 3),
])  # fmt: skip
def test_a_round_with_too_few_updates_counts_none(
    tmp_path: Path, rule: str, parameters: dict[str, Any], least: int
) -> None:
    algorithm = choose(rule, parameters)
    assert algorithm.least() == least
    base = weights(0)
    result = Played(algorithm, tmp_path, base).round(_updates(base, least - 1))
    assert result.model is None and len(result.excluded) == least - 1
    assert f"needs {least} updates, and {least - 1} came" in result.excluded["edge-00"]
    assert Played(algorithm, tmp_path, base).round(_updates(base, least)).model is not None


@pytest.mark.parametrize("rule, parameters, least", [
    ("TrimmedMean", {"trimmed": 2}, 5), ("Krum", {"byzantine": 2}, 7), ("Bulyan", {"byzantine": 1}, 7),
])  # fmt: skip
def test_an_update_that_a_check_has_refused_is_one_of_the_faulty_ones(
    tmp_path: Path, rule: str, parameters: dict[str, Any], least: int
) -> None:
    """Else attackers whose updates are refused one by one would stop every round."""
    base = weights(0)
    algorithm = choose(rule, parameters)
    assert Played(algorithm, tmp_path, base).round(_updates(base, least - 1), refused=1).model is not None
    few = Played(algorithm, tmp_path, base).round(_updates(base, least - 2 * least // 3), refused=0)
    assert few.model is None


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_neither_order_nor_claims_of_samples_change_a_bit(tmp_path_factory: Any, data: st.DataObject) -> None:
    rule, parameters = data.draw(st.sampled_from(RULES))
    base = weights(0)
    updates = _updates(base)
    order = data.draw(st.permutations(list(updates)))
    samples = data.draw(st.lists(st.integers(1, 10**6), min_size=EDGES, max_size=EDGES))
    directory = tmp_path_factory.mktemp("one")
    one = Played(choose(rule, parameters), directory, base).round(updates)
    other = Played(choose(rule, parameters), directory, base).round({edge: updates[edge] for edge in order}, samples)
    a, b = read(one.model, directory), read(other.model, directory)
    for name in (*FLOATS, BUFFER):
        np.testing.assert_array_equal(a[name], b[name])


def test_equal_updates_are_no_division_by_zero(tmp_path: Path) -> None:
    base = weights(0)
    for (rule, parameters), same in itertools.product(RULES, (base, moved(base, 1))):
        found = _played(rule, parameters, {f"edge-{at}": same for at in range(EDGES)}, tmp_path)
        np.testing.assert_allclose(found["w"], same["w"], rtol=1e-5, atol=1e-6)
