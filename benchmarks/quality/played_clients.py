"""The clients of a federation and its server, in one process.

Clients train in plain NumPy. Terms of the local training, checks, aggregation and robust rules are the code that jobs
run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.quality.classifier import Arrays, Part, gradients
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.core.errors import Refused
from heliograph.frameworks import adapter_for
from heliograph.local_training import LocalTraining
from heliograph.session import Work
from heliograph.workers.aggregation.checks import check_weights, expected_layout, norm_of
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.outliers import far_updates
from heliograph.workers.aggregation.round_inputs import Input, RoundStart
from heliograph.workers.algorithms import choose

Attack = Callable[[Arrays, Arrays, int], Arrays]
"""Returns what a faulty client sends, from the base, its update, and the round."""


class Clients:
    """A federation that plays round after round.

    Args:
        parts: the samples of each client.
        drawn: clients of each round.
        epochs: returns the passes of a client in a round; 0 where its update does not come.
        attack: what the clients of ``faulty`` send.

    Attributes:
        model: the global model.
    """

    def __init__(
        self, parts: list[Part], algorithm: str, parameters: Mapping[str, Any], model: Arrays, *, rate: float,
        seed: int, drawn: int, batch: int, epochs: Callable[[int, int], int] = lambda client, round: 1,
        attack: Attack | None = None, faulty: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        self.model = model
        self._parts, self._drawn, self._batch, self._epochs = parts, drawn, batch, epochs
        self._rate, self._seed = np.float32(rate), seed
        self._algorithm, self._parameters = choose(algorithm, parameters), dict(parameters)
        self._attack, self._faulty = attack, faulty
        self._states: dict[int, bytes] = {}
        self._state: Path | None = None
        self._down: Arrays = {}
        self._place = TemporaryDirectory()

    def round(self, number: int) -> None:
        """Train and aggregate one round."""
        rng = np.random.default_rng((self._seed, number))
        drawn = sorted(int(each) for each in rng.choice(len(self._parts), self._drawn, replace=False))
        base, inputs, distances = dumps(self.model), dict[str, Input](), dict[str, float]()
        states: dict[int, bytes] = {}
        came = 0
        with TensorFile(base) as file:
            layout = expected_layout(file.tensors, type(self._algorithm).beside)
        for client in drawn:
            epochs = self._epochs(client, number)
            if not epochs:
                continue
            trained, state = self._train(client, number, epochs)
            came += 1
            if self._attack is not None and client in self._faulty:
                trained = self._attack(self.model, trained, number)
            content, edge = dumps(trained), f"edge-{client:03}"
            try:
                distances[edge] = check_weights(content, layout, base).distance or 0.0
            except Refused:
                continue
            inputs[edge], states[client] = Input(content, float(len(self._parts[client][1]))), state
        for edge in far_updates(distances, self._algorithm.parameters.norm_factor, lambda: norm_of(base)):
            del inputs[edge]
        if inputs:
            self._aggregate(inputs, base, number, len(drawn), came - len(inputs))
            self._states |= states

    def _aggregate(self, inputs: Mapping[str, Input], base: bytes, number: int, asked: int, refused: int) -> None:
        place = Path(self._place.name)
        result = aggregate(inputs, self._algorithm, place, start=RoundStart(base, state=self._state), round=number,
                           asked=asked, edges_of_job=len(self._parts), refused=refused)  # fmt: skip
        if result.model is None:
            return
        self.model = _arrays(result.model.inline or (place / result.model.digest).read_bytes())
        self._state = place / result.state.digest if result.state is not None else None
        self._down = _arrays((place / result.down.digest).read_bytes()) if result.down is not None else {}

    def _train(self, client: int, number: int, epochs: int) -> tuple[Arrays, bytes]:
        """Return the update of a client, and what its algorithm keeps there."""
        arrays = {name: array.copy() for name, array in self.model.items()}
        x, y = self._parts[client]
        training, term = LocalTraining(adapter_for(arrays), len(y), None), type(self._algorithm).local_term
        state = TensorFile(self._states[client]) if self._states.get(client) else None
        training.begin(Work("train", "j", number, None, self._parameters, local_term=term, state=state), self._down)
        rng = np.random.default_rng((self._seed, number, client))
        for _ in range(epochs):
            order = rng.permutation(len(y))
            for start in range(0, len(y), self._batch):
                chosen = order[start : start + self._batch]
                found = gradients(arrays, x[chosen], y[chosen])
                for name, gradient in (training.correct(found) if term else found).items():
                    arrays[name] -= self._rate * gradient
        trained = training.end({}, {})
        return dict(trained.arrays), dumps(trained.state) if trained.state else b""


def _arrays(content: bytes) -> Arrays:
    with TensorFile(content) as file:
        return {name: array.copy() for name, array in file.arrays().items()}
