"""What an encoding of updates costs and saves: accuracy and bytes, on scikit-learn's digits over ten edges.

    python -m benchmarks.quality.update_encodings --rounds 30

A network of 64-64-10 learns in plain NumPy; updates are encoded, decoded and combined by the code that jobs run. Edges
have samples of two or three digits each (a sort by label in twenty shards).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.contract.resources.update_encoding import UpdateEncoding
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.simulations.scenario import neural_network
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.decoding import decode, encoding_of
from heliograph.workers.aggregation.round_inputs import Input, RoundStart
from heliograph.workers.algorithms import choose
from heliograph.workers.update_encoding import Encoder

EDGES, HELD_OUT = 10, 400
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The accuracy after the last round, and the bytes of one update."""

    accuracy: float
    update_bytes: int


ENCODINGS: dict[str, UpdateEncoding | None] = {
    "whole weights": None,
    "delta": UpdateEncoding(delta=True),
    "delta, float16": UpdateEncoding(delta=True, dtype="float16"),
    "delta, bfloat16": UpdateEncoding(delta=True, dtype="bfloat16"),
    "delta, int8": UpdateEncoding(delta=True, dtype="int8"),
    "int8": UpdateEncoding(dtype="int8"),
    "delta, top 10 %": UpdateEncoding(delta=True, top_k=0.1),
    "delta, top 1 %": UpdateEncoding(delta=True, top_k=0.01),
    "delta, top 10 %, int8": UpdateEncoding(delta=True, top_k=0.1, dtype="int8"),
}


def run(encoding: UpdateEncoding | None, rounds: int, seed: int = 0) -> Outcome:
    """Return the outcome of a federated run with that encoding."""
    parts, (test_x, test_y) = _parts(seed)
    model: Arrays = dict(neural_network.initial_weights(64, 64, 10, seed))
    residuals: list[Arrays] = [{} for _ in parts]
    algorithm, size = choose("FedAvg", {"norm_factor": 0}), 0
    with tempfile.TemporaryDirectory() as place:
        for number in range(1, rounds + 1):
            base, inputs = dumps(model), dict[str, Input]()
            for edge, (x, y) in enumerate(parts):
                trained, _ = neural_network.train(model, x, y, epochs=2, batch=16, rate=0.1, seed=number * 100 + edge)
                content, residuals[edge] = _travel(encoding, base, dict(trained), residuals[edge], f"{number}/{edge}")
                size = len(content)
                inputs[f"edge-{edge}"] = Input(_arrived(content, base, Path(place) / f"{edge}"), float(len(y)))
            result = aggregate(inputs, algorithm, Path(place), start=RoundStart(base), round=number, asked=EDGES)
            assert result.model is not None and result.model.inline is not None
            with TensorFile(result.model.inline) as file:
                model = {name: array.copy() for name, array in file.arrays().items()}
    return Outcome(neural_network.evaluate(model, test_x, test_y)["accuracy"], size)


def _travel(
    encoding: UpdateEncoding | None, base: bytes, arrays: Arrays, residuals: Arrays, seed: str
) -> tuple[bytes, Arrays]:
    if encoding is None:
        return dumps(arrays), {}
    with TensorFile(base) as file:
        sent, metadata, left = Encoder(encoding, file, residuals, seed).encode(arrays)
    return dumps(sent, metadata), left


def _arrived(content: bytes, base: bytes, target: Path) -> Path | bytes:
    found = encoding_of(content)
    if found is None:
        return content
    with TensorFile(base) as file:
        decode(content, target, *found, base, dict(file.tensors))
    return target


def _parts(seed: int) -> tuple[list[tuple[Any, Any]], tuple[Any, Any]]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(y))
    x, y = x[order], y[order]
    held_out, (x, y) = (x[:HELD_OUT], y[:HELD_OUT]), (x[HELD_OUT:], y[HELD_OUT:])
    shards = np.array_split(np.argsort(y, kind="stable"), 2 * EDGES)
    pairs = np.random.default_rng(seed).permutation(2 * EDGES).reshape(EDGES, 2)
    rows = [np.concatenate([shards[at] for at in pair]) for pair in pairs]
    return [(x[each], y[each]) for each in rows], held_out


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    print(f"{'encoding':24}{'bytes':>9}{'of whole':>10}{'accuracy':>10}{'spread':>9}")
    whole = 0
    for name, encoding in ENCODINGS.items():
        found = [run(encoding, given.rounds, seed) for seed in range(given.seeds)]
        whole = whole or found[0].update_bytes
        accuracies = [each.accuracy for each in found]
        share = found[0].update_bytes / whole
        print(f"{name:24}{found[0].update_bytes:9,}{share:9.1%}{np.median(accuracies):10.3f}{np.ptp(accuracies):9.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
