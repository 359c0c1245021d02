"""FedProx, SCAFFOLD and FedDyn in a script's own loop, with their servers, against loops over whole arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.weights_file import TensorFile, dumps, write
from heliograph.core.errors import Refused
from heliograph.frameworks import adapter_for
from heliograph.local_training import LocalTraining
from heliograph.session import Trained, Work
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.round_inputs import Input, RoundStart
from heliograph.workers.algorithms import choose
from heliograph.workers.edge_states import EdgeStates

RATE, STEPS, ROUNDS = 0.05, 7, 5
EDGES = ("edge-1", "edge-2", "edge-3")


def _optimum(edge: str) -> Any:
    """Each edge has its own quadratic loss, ½‖A(w - o)‖²: what is best differs from edge to edge."""
    return np.random.default_rng(EDGES.index(edge)).normal(size=4)


def _curvature(edge: str) -> Any:
    return np.array([0.5, 1.0, 2.0, 3.0]) * (1 + EDGES.index(edge))


def _gradient(edge: str, w: Any) -> Any:
    return _curvature(edge) * (w - _optimum(edge))


class Federation:
    """Edges that train a dict of arrays in a loop of their own, and the server that aggregates their updates.

    Args:
        by_hand: whether the loop hands its gradients over, or hides them in a fit.
        names: of the model's arrays, all with the same loss.

    Attributes:
        sent: names of the arrays in the last update.
        at_end: by edge, the model that its script had at the end of its last round.
    """

    def __init__(
        self, algorithm: str, parameters: dict[str, Any], directory: Path, by_hand: bool = True,
        names: tuple[str, ...] = ("w",),
    ) -> None:  # fmt: skip
        self.algorithm = choose(algorithm, parameters)
        self.parameters = parameters
        self.model = {name: np.zeros(4) for name in names}
        self.sent: set[str] = set()
        self.at_end: dict[str, dict[str, Any]] = {}
        self._directory = directory
        self._by_hand = by_hand
        self._states = {edge: EdgeStates(directory / edge) for edge in EDGES}
        self._counted: dict[str, str] = {}
        self._state: Path | None = None
        self._down: bytes | None = None

    def round(self, number: int, taking_part: tuple[str, ...], uncounted: tuple[str, ...] = ()) -> None:
        inputs: dict[str, Input] = {}
        for edge in taking_part:
            trained = self._train(edge, number)
            ref = write(trained.arrays, self._directory / "staged", {"round": str(number), "edge": edge})
            self._states[edge].stage(ref.digest, trained.state)
            if edge not in uncounted:
                self._counted[edge] = ref.digest
                inputs[edge] = Input(dumps(trained.arrays), 10.0)
        if not inputs:
            return
        start = RoundStart(dumps(self.model), state=self._state)
        result = aggregate(inputs, self.algorithm, self._directory, start=start, round=number, asked=len(taking_part),
                           edges_of_job=len(EDGES))  # fmt: skip
        assert result.model is not None and result.model.inline is not None
        with TensorFile(result.model.inline) as file:
            self.model = {name: array.copy() for name, array in file.arrays().items()}
        self._state = self._directory / result.state.digest if result.state is not None else None
        self._down = (self._directory / result.down.digest).read_bytes() if result.down is not None else None

    def _train(self, edge: str, number: int) -> Trained:
        arrays = {name: array.copy() for name, array in self.model.items()}
        training = LocalTraining(adapter_for(arrays), 10, None)
        state = self._states[edge].current(self._counted.get(edge))
        down = {}
        if self._down is not None:
            with TensorFile(self._down) as file:
                down = {name: array.copy() for name, array in file.arrays().items()}
        term = type(self.algorithm).local_term
        training.begin(Work("train", "job", number, None, self.parameters, local_term=term, state=state), down)
        self._loop(edge, arrays, training)
        if training.begin_own():
            self._loop(edge, arrays, training)
        trained = training.end({}, {})
        self.sent, self.at_end[edge] = set(trained.arrays), {name: array.copy() for name, array in arrays.items()}
        return trained

    def _loop(self, edge: str, arrays: dict[str, Any], training: LocalTraining) -> None:
        for _ in range(STEPS):
            gradients = {name: _gradient(edge, array) for name, array in arrays.items()}
            if self._by_hand:
                for name, gradient in training.correct(gradients).items():
                    arrays[name] -= RATE * gradient
            else:
                before = training.weights()
                for name, gradient in gradients.items():  # a fit that hides its gradient
                    arrays[name] -= RATE * gradient
                training.correct_fit(RATE, before)


def _fedprox(mu: float, taking_part: Mapping[int, tuple[str, ...]]) -> Any:
    x = np.zeros(4)
    for edges in taking_part.values():
        found = []
        for edge in edges:
            y = x.copy()
            for _ in range(STEPS):
                y = y - RATE * (_gradient(edge, y) + mu * (y - x))
            found.append(y)
        x = np.mean(found, axis=0)
    return x


def _scaffold(rate: float, taking_part: Mapping[int, tuple[str, ...]], uncounted: Mapping[int, tuple[str, ...]]) -> Any:
    """The paper's algorithm 1 with option II."""
    x, c, own = np.zeros(4), np.zeros(4), {edge: np.zeros(4) for edge in EDGES}
    for number, edges in taking_part.items():
        changes, controls = [], []
        for edge in edges:
            y = x.copy()
            for _ in range(STEPS):
                y = y - RATE * (_gradient(edge, y) - own[edge] + c)
            if edge in uncounted.get(number, ()):
                continue
            after = own[edge] - c + (x - y) / (STEPS * RATE)
            changes.append(y - x)
            controls.append(after - own[edge])
            own[edge] = after
        x = x + rate * np.mean(changes, axis=0)
        c = c + len(changes) / len(EDGES) * np.mean(controls, axis=0)
    return x


def _feddyn(alpha: float, taking_part: Mapping[int, tuple[str, ...]], uncounted: Mapping[int, tuple[str, ...]]) -> Any:
    x, h, own = np.zeros(4), np.zeros(4), {edge: np.zeros(4) for edge in EDGES}
    for number, edges in taking_part.items():
        found = []
        for edge in edges:
            y = x.copy()
            for _ in range(STEPS):
                y = y - RATE * (_gradient(edge, y) - own[edge] + alpha * (y - x))
            if edge in uncounted.get(number, ()):
                continue
            own[edge] = own[edge] - alpha * (y - x)
            found.append(y)
        h = h - alpha * sum(y - x for y in found) / len(EDGES)
        x = np.mean(found, axis=0) - h / alpha
    return x


PARTS = {1: EDGES, 2: EDGES[:2], 3: EDGES[1:], 4: EDGES, 5: EDGES[::2]}
LATE = {2: ("edge-2",), 4: ("edge-1",)}


@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize("algorithm", ["FedProx", "SCAFFOLD", "FedDyn"])
@pytest.mark.parametrize("uncounted", [{}, LATE], ids=["all-counted", "some-late"])
def test_a_term_follows_its_paper(
    tmp_path: Path, algorithm: str, uncounted: Mapping[int, tuple[str, ...]], by_hand: bool
) -> None:
    """Also where an update came late: its edge goes on from the state of its last counted one."""
    if algorithm == "FedProx":
        uncounted = {}
    parameters: dict[str, Any] = {
        "FedProx": {"mu": 0.7}, "SCAFFOLD": {"server_learning_rate": 0.8}, "FedDyn": {"alpha": 0.6},
    }[algorithm]  # fmt: skip
    federation = Federation(algorithm, parameters, tmp_path, by_hand)
    for number, edges in PARTS.items():
        federation.round(number, edges, uncounted.get(number, ()))
    expected = {
        "FedProx": lambda: _fedprox(0.7, PARTS),
        "SCAFFOLD": lambda: _scaffold(0.8, PARTS, uncounted),
        "FedDyn": lambda: _feddyn(0.6, PARTS, uncounted),
    }[algorithm]()
    np.testing.assert_allclose(federation.model["w"], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("algorithm", ["SCAFFOLD", "FedDyn"])
def test_drifting_edges_meet_at_the_optimum_of_all(tmp_path: Path, algorithm: str) -> None:
    """FedAvg with several local steps ends elsewhere."""
    curvature = np.sum([_curvature(edge) for edge in EDGES], axis=0)
    optimum = np.sum([_curvature(edge) * _optimum(edge) for edge in EDGES], axis=0) / curvature
    ends = {}
    for name, parameters in ((algorithm, {"alpha": 1.0} if algorithm == "FedDyn" else {}), ("FedAvg", {})):
        federation = Federation(name, parameters, tmp_path / name)
        for number in range(1, 60):
            federation.round(number, EDGES)
        ends[name] = float(np.abs(federation.model["w"] - optimum).max())
    assert ends[algorithm] < 1e-3 < ends["FedAvg"]


def test_a_round_without_a_step_is_refused_with_the_way_out() -> None:
    training = LocalTraining(adapter_for({"w": np.zeros(2)}), 10, None)
    training.begin(Work("train", "job", 1, local_term="FedProx"), {})
    with pytest.raises(Refused, match=r"FedProx adds a term.*got a round without one.*r\.correct\(gradients\)"):
        training.end({}, {})


def test_a_term_of_a_newer_release_is_refused() -> None:
    training = LocalTraining(adapter_for({"w": np.zeros(2)}), 10, None)
    with pytest.raises(Refused, match=r"field local_term.*got FedFuture.*Update heliograph"):
        training.begin(Work("train", "job", 1, local_term="FedFuture"), {})


def test_steps_and_loss_are_measured_where_the_algorithm_needs_them() -> None:
    arrays = {"w": np.ones(2)}
    training = LocalTraining(adapter_for(arrays), 10, lambda: float(arrays["w"].sum()))
    for needs, expected in (((), {}), (("received_loss", "local_steps"), {"received_loss": 2.0, "local_steps": 3})):
        found = training.begin(Work("train", "job", 1, needs=needs), {})
        for _ in range(3):
            gradients = {"w": np.ones(2)}
            assert (training.correct(gradients)["w"] == gradients["w"]).all()
        assert {**training.end(found, {}).metrics, "local_momentum": 0} == {**expected, "local_momentum": 0}


@pytest.mark.parametrize("loss", [lambda: float("nan"), lambda: "much", lambda: None])
def test_a_loss_that_is_no_number_is_refused(loss: Any) -> None:
    training = LocalTraining(adapter_for({"w": np.ones(2)}), 10, loss)
    with pytest.raises(Refused, match="field loss: expected a function that returns a finite number"):
        training.begin(Work("train", "job", 1, needs=("received_loss",)), {})


def _descended(edge: str, y: Any, steps: int, *, pull: float = 0.0, anchor: Any = 0.0) -> Any:
    for _ in range(steps):
        y = y - RATE * (_gradient(edge, y) + pull * (y - anchor))
    return y


@pytest.mark.parametrize("head_steps", [None, 3])
def test_the_head_never_leaves_its_edge_and_goes_on_from_its_last_counted_state(
    tmp_path: Path, head_steps: int | None
) -> None:
    """FedPer trains head and body together; FedRep the head first, then the body."""
    parameters: dict[str, Any] = {"personal_layers": "head*"}
    if head_steps is not None:
        parameters["head_steps"] = head_steps
    federation = Federation("FedRep" if head_steps else "FedPer", parameters, tmp_path, names=("head.w", "body.w"))
    body, heads = np.zeros(4), {edge: np.zeros(4) for edge in EDGES}
    for number, edges in PARTS.items():
        late = LATE.get(number, ())
        federation.round(number, edges, late)
        assert federation.sent == {"body.w"}
        bodies = []
        for edge in edges:
            head = _descended(edge, heads[edge], head_steps or STEPS)
            np.testing.assert_allclose(federation.at_end[edge]["head.w"], head)
            if edge not in late:
                heads[edge] = head
                bodies.append(_descended(edge, body, STEPS - (head_steps or 0)))
        body = np.mean(bodies, axis=0)
        np.testing.assert_allclose(federation.model["body.w"], body, rtol=1e-6)
        assert (federation.model["head.w"] == 0).all()


def test_ditto_keeps_a_model_of_each_edge_beside_the_global_one(tmp_path: Path) -> None:
    federation = Federation("Ditto", {"lambda_": 0.7}, tmp_path)
    x, own = np.zeros(4), dict[str, Any]()
    for number, edges in PARTS.items():
        late = LATE.get(number, ())
        federation.round(number, edges, late)
        found = []
        for edge in edges:
            v = _descended(edge, own.get(edge, x), STEPS, pull=0.7, anchor=x)
            np.testing.assert_allclose(federation.at_end[edge]["w"], v)  # what the script has when the job ends
            if edge not in late:
                own[edge] = v
                found.append(_descended(edge, x, STEPS))
        x = np.mean(found, axis=0)
        np.testing.assert_allclose(federation.model["w"], x, rtol=1e-6)  # the global model is FedAvg's


@pytest.mark.parametrize("patterns, matched", [("", "none, which match 0"), ("tail*", "tail\\*, which match 0"),
                                               ("*", "which match 2")])  # fmt: skip
def test_layers_that_the_model_has_not_are_refused_with_those_that_it_has(patterns: str, matched: str) -> None:
    training = LocalTraining(adapter_for({"head.w": np.zeros(2), "body.w": np.zeros(2)}), 10, None)
    with pytest.raises(Refused, match=rf"field personal_layers: expected .*body\.w, head\.w, got .*{matched} of 2"):
        training.begin(Work("train", "job", 1, None, {"personal_layers": patterns}, local_term="FedPer"), {})


class WithBuffers:
    """A model of a user's own framework, with a layer of batch normalisation."""

    def __init__(self) -> None:
        names = ("conv.weight", "norm.weight", "norm.bias", "norm.running_var", "out.weight")
        self.arrays = {name: np.ones(2) for name in names}

    def get(self) -> dict[str, Any]:
        return {name: array.copy() for name, array in self.arrays.items()}

    def set(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = {name: array.copy() for name, array in arrays.items()}

    def buffers(self) -> frozenset[str]:
        return frozenset({"norm.running_var"})


def test_fedbn_leaves_batch_normalisation_on_the_edge(tmp_path: Path) -> None:
    model, states = WithBuffers(), EdgeStates(tmp_path)
    training = LocalTraining(model, 10, None)
    training.begin(Work("train", "job", 1, local_term="FedBN"), {})
    model.arrays = {name: np.full(2, 5.0) for name in model.arrays}
    trained = training.end({}, {})
    assert set(trained.arrays) == {"conv.weight", "out.weight"}
    states.stage("a" * 64, trained.state)
    model.arrays = {name: np.full(2, 7.0) for name in model.arrays}  # the next global model
    training.begin(Work("train", "job", 2, local_term="FedBN", state=states.current("a" * 64)), {})
    assert {name: array[0] for name, array in model.arrays.items()} == {
        "conv.weight": 7, "out.weight": 7, "norm.weight": 5, "norm.bias": 5, "norm.running_var": 5,
    }  # fmt: skip
    with pytest.raises(Refused, match="expected a layer of batch normalisation"):
        LocalTraining(adapter_for({"w": np.zeros(2)}), 1, None).begin(Work("train", "j", 1, local_term="FedBN"), {})
