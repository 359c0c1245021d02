"""Split-MNIST, class-incremental: five tasks of two digits each, one head for all, and no task label.

    python -m benchmarks.quality.split_mnist                    # all strategies, 2,000 steps a task
    python -m benchmarks.quality.split_mnist --steps 300 replay icarl

The setting is that of van de Ven et al. 2022, "Three types of incremental learning",
https://doi.org/10.1038/s42256-022-00568-3: 784-400-400 with ReLU, Adam 1e-3, batches of 128, 2,000 steps a task.
Published: none 19.9, replay with 1,100 exemplars 90.78 ± 0.85, iCaRL with 2,000 exemplars 94.57 ± 0.11.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.quality.mnist import mnist
from benchmarks.quality.perceptron import Perceptron
from heliograph import IncrementalLearning
from heliograph.core.errors import HeliographError
from heliograph.incremental.strategies import ICaRL, LwF, Replay, strategies_of

TASKS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
BATCH, STEPS = 128, 2000


@dataclass(frozen=True)
class Setting:
    """A strategy, and the accuracy that it has to reach after the last task.

    Attributes:
        least, most: bounds of the accuracy on all ten digits.
    """

    strategy: Any
    least: float
    most: float = 1.0


SETTINGS = {
    "none": Setting(None, 0.19, 0.21),
    "lwf": Setting(LwF(), 0.19, 0.25),
    "replay": Setting(Replay(1100), 0.90),
    "icarl": Setting(ICaRL(2000), 0.935),
}


def run(strategy: Any, steps: int = STEPS, seed: int = 0) -> list[float]:
    """Return the accuracy on the test images of the classes so far, after each task."""
    (x, y), (test_x, test_y) = mnist()
    network = Perceptron(x.shape[1], len(TASKS[0]), seed)
    il = IncrementalLearning(network.weights, predict=network.scores, features=network.features, head=("w3", "b3"),
                             strategy=strategy, seed=seed, force=True)  # fmt: skip
    uses_scores = any(isinstance(each, LwF) for each in strategies_of(strategy))
    found = []
    for number, task in enumerate(TASKS, 1):
        chosen = np.isin(y, task)
        for this in il.rounds(x[chosen], y[chosen]):
            network.begin()
            more = this.score_gradients if uses_scores else None
            for batch in this.batches(BATCH, steps=steps):
                network.step(batch.x, batch.y, more)
        seen = test_y < number * len(task)
        found.append(float((il.predict(test_x[seen]) == test_y[seen]).mean()))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each strategy. Return 1 where one misses its figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.split_mnist")
    parser.add_argument("strategies", nargs="*", help=f"some of {', '.join(SETTINGS)}; by default all")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of a task")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.strategies) - set(SETTINGS)):
        parser.error(f"no strategy is called {unknown[0]}; there are {', '.join(SETTINGS)}")
    missed = False
    warnings.simplefilter("ignore")
    for name in given.strategies or SETTINGS:
        setting = SETTINGS[name]
        try:
            accuracies = run(setting.strategy, given.steps, given.seed)
        except HeliographError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        holds = setting.least <= accuracies[-1] <= setting.most
        missed |= not holds
        row = "  ".join(f"{each:.4f}" for each in accuracies)
        wanted = f"{setting.least:g} to {setting.most:g}"
        print(f"{name:12} {row}   {'as wanted' if holds else 'MISSED'}: {wanted}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
