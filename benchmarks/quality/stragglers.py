"""FedProx against FedAvg where nine of ten devices are slow: the synthetic(1, 1) data of its paper.

    python -m benchmarks.quality.stragglers

30 devices with samples by a power law, 10 a round, 20 passes; nine of ten devices finish only some of them. FedAvg
drops their updates, FedProx (μ = 1) takes what they have. Li et al. 2020, https://arxiv.org/abs/1812.06127: 22 points
more on average over its data sets. The goal is 10 points, as a mean over five seeds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

import numpy as np

from benchmarks.quality.classifier import Part, network, scores
from benchmarks.quality.played_clients import Clients

DEVICES, DRAWN, PASSES, SLOW = 30, 10, 20, 0.9
FEATURES, CLASSES = 60, 10
MOST_SAMPLES = 2000
GOAL = 0.10


def synthetic(seed: int) -> list[Part]:
    """Return the samples of each device, by the paper's appendix C."""
    rng = np.random.default_rng(seed)
    found = []
    scale = np.arange(1, FEATURES + 1) ** -1.2
    for _ in range(DEVICES):
        samples = min(int(rng.lognormal(4, 2)) + 50, MOST_SAMPLES)
        u, b = rng.normal(0, 1), rng.normal(0, 1)
        w, bias = rng.normal(u, 1, (FEATURES, CLASSES)), rng.normal(u, 1, CLASSES)
        x = rng.normal(rng.normal(b, 1, FEATURES), np.sqrt(scale), (samples, FEATURES))
        found.append((x.astype(np.float32), (x @ w + bias).argmax(1)))
    return found


def run(algorithm: str, parameters: dict[str, Any], seed: int, rounds: int) -> float:
    """Return the accuracy over the held-out tenths of all devices."""
    whole = synthetic(seed)
    parts = [(x[len(y) // 10 :], y[len(y) // 10 :]) for x, y in whole]
    test_x = np.concatenate([x[: len(y) // 10] for x, y in whole])
    test_y = np.concatenate([y[: len(y) // 10] for x, y in whole])

    def passes(client: int, round: int) -> int:
        rng = np.random.default_rng((seed, round, client, 7))
        if rng.random() >= SLOW:
            return PASSES
        return 0 if algorithm == "FedAvg" else int(rng.integers(1, PASSES))

    clients = Clients(parts, algorithm, {**parameters, "norm_factor": 0}, network((FEATURES, CLASSES), seed), rate=0.01,
                      seed=seed, drawn=DRAWN, batch=10, epochs=passes)  # fmt: skip
    found = []
    for number in range(1, rounds + 1):
        clients.round(number)
        if number > rounds - 10:
            found.append(float((scores(clients.model, test_x)[-1].argmax(1) == test_y).mean()))
    return statistics.mean(found)  # of the last ten rounds: FedAvg swings


def main() -> int:
    """Print the table; return 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    gains = []
    for seed in range(given.seeds):
        plain, pulled = run("FedAvg", {}, seed, given.rounds), run("FedProx", {"mu": 1.0}, seed, given.rounds)
        gains.append(pulled - plain)
        print(f"seed {seed}: FedAvg {plain:.3f}, FedProx {pulled:.3f}", flush=True)
    print(f"mean gain: {statistics.mean(gains) * 100:.1f} points; goal: {GOAL * 100:.0f}")
    return int(statistics.mean(gains) < GOAL)


if __name__ == "__main__":
    sys.exit(main())
