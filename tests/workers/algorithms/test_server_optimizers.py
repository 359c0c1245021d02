"""FedAvgM, FedAdagrad, FedAdam, FedYogi, FedNova and q-FedAvg against loops over whole arrays in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.workers.aggregation import blocks
from heliograph.workers.algorithms import choose
from tests.workers.algorithms.rounds import BUFFER, FLOATS, Arrays, Played, moved, read, weights

ROUNDS, SAMPLES = 4, (10.0, 30.0, 20.0)
SHARES = np.array(SAMPLES) / 60


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 64)  # several blocks, the last one shorter


def _updates(base: Arrays, round: int) -> dict[str, Arrays]:
    return {f"edge-{edge}": moved(base, 10 * round + edge) for edge in range(3)}


def _mean(updates: dict[str, Arrays], name: str) -> Any:
    return sum(share * each[name].astype(np.float64) for share, each in zip(SHARES, updates.values(), strict=True))


def _reference(name: str, parameters: dict[str, float], x: Any, changes: list[Any]) -> Any:
    """Return a tensor after a round for each of the mean changes, by the equations of the papers."""
    rate, tau = parameters.get("server_learning_rate", 1.0), parameters.get("tau", 1e-3)
    b1, b2 = parameters.get("beta_1", 0.9), parameters.get("beta_2", 0.99)
    m, v = np.zeros_like(x), np.full_like(x, 0.0 if name == "FedAvgM" else tau**2)
    for step, change in enumerate(changes, 1):
        if name == "FedAvgM":
            v = parameters["server_momentum"] * v + change
            x = x + rate * v
            continue
        m = b1 * m + (1 - b1) * change
        if name == "FedAdagrad":
            v = v + change**2
        elif name == "FedAdam":
            v = b2 * v + (1 - b2) * change**2
        else:
            v = v - (1 - b2) * change**2 * np.sign(v - change**2)
        seen = (1 - b1**step, 1 - b2**step) if parameters.get("bias_correction") else (1, 1)
        x = x + rate * (m / seen[0]) / (np.sqrt(v / seen[1]) + tau)
    return x


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("FedAvgM", {"server_momentum": 0.8, "server_learning_rate": 0.5}),
        ("FedAdagrad", {"server_learning_rate": 0.1, "beta_1": 0.0}),
        ("FedAdagrad", {"server_learning_rate": 0.1, "beta_1": 0.7, "tau": 0.01}),
        ("FedAdam", {"server_learning_rate": 0.1}),
        ("FedAdam", {"server_learning_rate": 0.1, "bias_correction": True}),
        ("FedYogi", {"server_learning_rate": 0.1, "tau": 0.02}),
        ("FedYogi", {"server_learning_rate": 0.1, "beta_2": 0.9, "bias_correction": True}),
    ],
)
def test_a_server_optimizer_follows_its_equations(tmp_path: Path, name: str, parameters: dict[str, float]) -> None:
    played = Played(choose(name, parameters), tmp_path, weights(0))
    first, changes = played.base, list[dict[str, Any]]()
    for round in range(1, ROUNDS + 1):
        base, updates = played.base, _updates(played.base, round)
        changes.append({each: _mean(updates, each) - base[each] for each in FLOATS})
        played.round(updates, SAMPLES)
        np.testing.assert_allclose(played.base[BUFFER], _mean(updates, BUFFER), rtol=1e-6)  # a plain mean
    for each in FLOATS:
        expected = _reference(name, parameters, first[each].astype(np.float64), [change[each] for change in changes])
        np.testing.assert_allclose(played.base[each], expected, rtol=2e-4, atol=2e-6)
        assert played.base[each].dtype == first[each].dtype


def test_a_buffer_is_what_most_updates_say(tmp_path: Path) -> None:
    algorithm = choose("FedAvgM", {"server_learning_rate": 3.0})
    base = weights(0)
    updates = _updates(base, 1)
    as_parameter = Played(algorithm, tmp_path, base)
    as_parameter.round(updates, SAMPLES, buffers=())
    change = _mean(updates, BUFFER) - base[BUFFER]
    np.testing.assert_allclose(as_parameter.base[BUFFER], base[BUFFER] + 3 * change, rtol=1e-5)


def test_rounds_begin_with_the_second_moment_of_the_paper(tmp_path: Path) -> None:
    """With v₀ = 0 the first steps would be as long as 1 / τ where the mean change is 0."""
    played = Played(choose("FedAdam", {"tau": 0.5}), tmp_path, weights(0))
    result = played.round({"edge-1": played.base, "edge-2": played.base})
    np.testing.assert_allclose(read(result.state, tmp_path)["v:w"], 0.99 * 0.25, rtol=1e-6)


STEPS = {"edge-0": 4.0, "edge-1": 40.0, "edge-2": 10.0}


def test_fednova_normalises_each_change_by_its_own_steps(tmp_path: Path) -> None:
    played = Played(choose("FedNova", {}), tmp_path, weights(0))
    base, updates = played.base, _updates(played.base, 1)
    momentum = {"edge-0": 0.0, "edge-1": 0.9, "edge-2": 0.5}
    metrics = {edge: {"local_steps": STEPS[edge], "local_momentum": momentum[edge]} for edge in STEPS}
    played.round(updates, SAMPLES, metrics)
    # ‖a‖₁ by its definition: the weight of each local gradient, the last one first
    norms = [
        sum(sum(momentum[edge] ** back for back in range(left + 1)) for left in range(int(steps)))
        for edge, steps in STEPS.items()
    ]
    effective = sum(share * norm for share, norm in zip(SHARES, norms, strict=True))
    for name in FLOATS:
        changes = [each[name].astype(np.float64) - base[name] for each in updates.values()]
        step = sum(share * change / norm for share, change, norm in zip(SHARES, changes, norms, strict=True))
        np.testing.assert_allclose(played.base[name], base[name] + effective * step, rtol=1e-4, atol=1e-6)


def test_fednova_with_equal_steps_is_fedavg(tmp_path: Path) -> None:
    played = Played(choose("FedNova", {}), tmp_path, weights(0))
    plain = Played(choose("FedAvg", {}), tmp_path, weights(0))
    updates = _updates(played.base, 1)
    played.round(updates, SAMPLES, {edge: {"local_steps": 7.0} for edge in STEPS})
    plain.round(updates, SAMPLES)
    np.testing.assert_allclose(played.base["w"], plain.base["w"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("claim", [None, 0.0, -5.0, 1e9, float("nan"), float("inf")])
def test_fednova_counts_no_update_without_plausible_steps(tmp_path: Path, claim: float | None) -> None:
    played = Played(choose("FedNova", {}), tmp_path, weights(0))
    metrics = {edge: {"local_steps": steps} for edge, steps in STEPS.items()}
    metrics["edge-1"] = {} if claim is None else {"local_steps": claim}
    result = played.round(_updates(played.base, 1), SAMPLES, metrics)
    assert set(result.excluded) == {"edge-1"}
    assert "metric local_steps: expected" in result.excluded["edge-1"]
    assert result.model is not None


def test_fednova_refuses_a_claim_that_makes_a_change_far_larger_than_the_others(tmp_path: Path) -> None:
    """An edge that trained as many steps as the others and claims one would weigh a hundred times as much."""
    played = Played(choose("FedNova", {}), tmp_path, weights(0))
    metrics = {edge: {"local_steps": 1.0 if edge == "edge-1" else 100.0} for edge in STEPS}
    result = played.round(_updates(played.base, 1), SAMPLES, metrics)
    assert set(result.excluded) == {"edge-1"} and "norm_factor" in result.excluded["edge-1"]


def test_a_round_without_any_plausible_claim_has_no_model(tmp_path: Path) -> None:
    for name in ("FedNova", "QFedAvg"):
        result = Played(choose(name, {}), tmp_path, weights(0)).round(_updates(weights(0), 1), SAMPLES)
        assert result.model is None and len(result.excluded) == 3


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0, 5.0])
def test_qfedavg_follows_its_equations(tmp_path: Path, q: float) -> None:
    rate = 0.1
    played = Played(choose("QFedAvg", {"q": q, "learning_rate": rate}), tmp_path, weights(0))
    base, updates = played.base, _updates(played.base, 1)
    losses = {"edge-0": 0.2, "edge-1": 1.5, "edge-2": 0.9}
    played.round(updates, SAMPLES, {edge: {"received_loss": loss} for edge, loss in losses.items()})
    lipschitz, total, steps = 1 / rate, dict.fromkeys(FLOATS, 0.0), 0.0
    for edge, loss in losses.items():
        slopes = {name: lipschitz * (base[name].astype(np.float64) - updates[edge][name]) for name in FLOATS}
        square = sum(float((each**2).sum()) for each in slopes.values())
        steps += q * loss ** (q - 1) * square + lipschitz * loss**q
        total = {name: total[name] + loss**q * slopes[name] for name in FLOATS}
    for name in FLOATS:
        np.testing.assert_allclose(played.base[name], base[name] - total[name] / steps, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(played.base[BUFFER], sum(each[BUFFER] for each in updates.values()) / 3, rtol=1e-5)


def test_qfedavg_lives_with_a_loss_of_zero(tmp_path: Path) -> None:
    played = Played(choose("QFedAvg", {"q": 0.5}), tmp_path, weights(0))
    losses = {f"edge-{at}": {"received_loss": loss} for at, loss in enumerate((0.0, 0.0, 1.0))}
    result = played.round(_updates(played.base, 1), SAMPLES, losses)
    assert result.model is not None and not result.excluded
    assert np.isfinite(played.base["w"]).all()
