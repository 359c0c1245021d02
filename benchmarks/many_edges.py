"""``heliograph run`` with many edges on this machine: wall time, and the memory of all processes together.

The network is that of McMahan et al. (2017) for MNIST, 784-200-200-10, in NumPy; each edge has two classes. The samples
are scikit-learn's 1,797 digits, enlarged to 28 × 28, shifted and with noise: MNIST itself need not be downloaded.

    python -m benchmarks.many_edges 20 50 100
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.processes import MemoryWatch

COPIES = 6
"""Shifted copies of each digit."""
SCRIPT = """
import numpy as np
from heliograph import FederatedLearning, dataset

data = np.load(dataset())
x, y = data["x"], data["y"]
start = np.random.default_rng(0)
sizes = [784, 200, 200, 10]
model = {}
for layer, (rows, columns) in enumerate(zip(sizes, sizes[1:])):
    model[f"w{layer}"] = (start.standard_normal((rows, columns)) * np.sqrt(2 / rows)).astype(np.float32)
    model[f"b{layer}"] = np.zeros(columns, np.float32)


def forward(x):
    layers = [x]
    for layer in range(3):
        x = x @ model[f"w{layer}"] + model[f"b{layer}"]
        x = np.maximum(x, 0) if layer < 2 else x
        layers.append(x)
    return layers


def accuracy():
    return {"accuracy": float((forward(x)[-1].argmax(1) == y).mean())}


def train(x, y, rate=0.05):
    layers = forward(x)
    p = np.exp(layers[-1] - layers[-1].max(1, keepdims=True))
    error = p / p.sum(1, keepdims=True)
    error[np.arange(len(y)), y] -= 1
    error /= len(y)
    for layer in (2, 1, 0):
        below = (error @ model[f"w{layer}"].T) * (layers[layer] > 0)
        model[f"w{layer}"] -= rate * layers[layer].T @ error
        model[f"b{layer}"] -= rate * error.sum(0)
        error = below


shuffle = np.random.default_rng(1)
for _ in FederatedLearning(model, evaluate=accuracy, num_samples=len(y)).rounds():
    for _ in range(5):
        order = shuffle.permutation(len(y))
        for first in range(0, len(y), 20):
            some = order[first : first + 20]
            train(x[some], y[some])
"""


@dataclass(frozen=True)
class Measured:
    """One run's figures: seconds in all and until the first round began, bytes of all processes, and the last line
    about a round."""

    edges: int
    seconds: float
    started: float
    memory: int
    last: str


def measure(edges: int, rounds: int, directory: Path) -> Measured:
    """Run the command to its end. Raise RuntimeError with the end of its output where it fails."""
    script, data = directory / "mlp.py", directory / "digits.npz"
    script.write_text(SCRIPT)
    write_digits(data)
    words = ["run", script, "--data", data, "--split", "by-label:2", "--test", "0.1", "--edges", edges,
             "--rounds", rounds, "--plain", "--out", directory / "mlp.safetensors"]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "heliograph.cli.main", *map(str, words)], cwd=directory, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines, started = [], 0.0
    with MemoryWatch([process.pid], "aggregation") as memory:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{time.perf_counter() - began:7.1f} s  {line}", end="", file=sys.stderr, flush=True)
            lines.append(line)
            if not started and re.match(r"job/\S+ Running", line):
                started = time.perf_counter() - began
    if process.wait():
        raise RuntimeError("".join(lines[-20:]))
    last = [line.strip() for line in lines if line.startswith("round")][-1]
    return Measured(edges, time.perf_counter() - began, started, memory.total, last)


def write_digits(file: Path) -> None:
    """Write ``x`` float32 (n, 784) between 0 and 1, and ``y`` int64 (n,)."""
    from sklearn.datasets import load_digits

    small, classes = load_digits(return_X_y=True)
    draw = np.random.default_rng(0)
    large = np.kron(small.reshape(-1, 8, 8) / 16, np.ones((3, 3)))
    x = np.zeros((COPIES, len(small), 28, 28), np.float32)
    for copy in range(COPIES):
        down, right = draw.integers(0, 5, 2)
        x[copy, :, down : down + 24, right : right + 24] = large
    x += draw.normal(0, 0.05, x.shape).astype(np.float32)
    np.savez(file, x=x.reshape(-1, 784).clip(0, 1), y=np.tile(classes, COPIES).astype(np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.many_edges", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("edges", nargs="*", type=int, default=[20, 50, 100], help="numbers of edges")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for edges in given.edges:
        before = os.getloadavg()[0]
        with tempfile.TemporaryDirectory(prefix="heliograph-edges-") as directory:
            found = measure(edges, given.rounds, Path(directory))
        print(f"{found.edges} edges, {given.rounds} rounds: {found.seconds:.0f} s, of which {found.started:.0f} s to "
              f"start; {found.memory / 2**20:,.0f} MB resident in all processes together; {found.last}; "
              f"{os.cpu_count()} cores, load {before:.1f} before", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
