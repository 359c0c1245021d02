"""Federated learning on MNIST: rounds to an accuracy, against the papers' figures.

    python -m benchmarks.quality.federated_mnist                 # all rows
    python -m benchmarks.quality.federated_mnist iid shards      # some

- 2NN: 784-200-200-10, 100 clients, C = 0.1, E = 1, B = 10. McMahan et al. 2017, https://arxiv.org/abs/1602.05629
- SCAFFOLD: a linear classifier, 100 clients of one digit each (0 % similarity), 20 a round, 5 passes of 5 batches.
  Karimireddy et al. 2020, https://arxiv.org/abs/1910.06378; the paper has EMNIST
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.quality.classifier import Array, accuracy, network
from benchmarks.quality.mnist import mnist
from benchmarks.quality.played_clients import Clients

CLIENTS = 100


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        split: returns the rows of each client.
        accuracy: on the test images, to be reached.
        most_rounds: the goal: rounds in which it is.
        paper: rounds in the paper; 0 where it has none.
    """

    name: str
    split: Callable[[Array, int], list[Array]]
    accuracy: float
    most_rounds: int
    paper: int
    rate: float
    algorithm: str = "FedAvg"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[int, ...] = (200, 200)
    drawn: int = 10
    epochs: int = 1
    batch: int = 10


def iid(y: Array, seed: int) -> list[Array]:
    """Return the rows of each client: a random share."""
    return np.array_split(np.random.default_rng(seed).permutation(len(y)), CLIENTS)


def two_shards(y: Array, seed: int) -> list[Array]:
    """Return the rows of each client: two of 200 shards of the images sorted by digit."""
    shards = np.array_split(np.argsort(y, kind="stable"), 2 * CLIENTS)
    pairs = np.random.default_rng(seed).permutation(2 * CLIENTS).reshape(CLIENTS, 2)
    return [np.concatenate([shards[at] for at in pair]) for pair in pairs]


def one_digit(y: Array, seed: int) -> list[Array]:
    """Return the rows of each client: images of one digit, as 0 % similarity in SCAFFOLD's paper."""
    return np.array_split(np.argsort(y, kind="stable"), CLIENTS)


def rounds_to(row: Row, seed: int, most: int) -> tuple[int | None, float]:
    """Return the round in which the row's accuracy was reached, and the last accuracy."""
    (x, y), test = mnist()
    parts = [(x[rows], y[rows]) for rows in row.split(y, seed)]
    clients = Clients(
        parts, row.algorithm, row.parameters, network((784, *row.hidden, 10), seed), rate=row.rate, seed=seed,
        drawn=row.drawn, batch=row.batch, epochs=lambda client, round: row.epochs,
    )  # fmt: skip
    found = 0.0
    for number in range(1, most + 1):
        clients.round(number)
        found = accuracy(clients.model, test)
        if found >= row.accuracy:
            return number, found
    return None, found


ONE_DIGIT = Row("FedAvg, one digit, to 85 %", one_digit, 0.85, 500, 0, 0.05, hidden=(), drawn=20, epochs=5, batch=120)
ROWS = {
    "iid": Row("2NN IID to 97 %", iid, 0.97, 87, 87, 0.1),
    "shards": Row("2NN two shards to 97 %", two_shards, 0.97, 400, 664, 0.05),
    "fedavg": ONE_DIGIT,
    "scaffold": replace(ONE_DIGIT, name="SCAFFOLD, one digit, to 85 %", algorithm="SCAFFOLD"),
}


def main() -> int:
    """Print each row; return 1 where a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], default=list(ROWS))
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    missed = False
    print(f"{'row':28}{'rate':>7}{'rounds':>8}{'goal':>6}{'paper':>7}{'accuracy':>10}{'seconds':>9}")
    for name in given.rows:
        row, began = ROWS[name], time.perf_counter()
        reached, last = rounds_to(row, given.seed, row.most_rounds)
        lasted = time.perf_counter() - began
        figures = f"{reached or '-':>8}{row.most_rounds:6}{row.paper:7}{last:10.4f}{lasted:9.1f}"
        print(f"{row.name:28}{row.rate:7g}{figures}", flush=True)
        missed |= reached is None
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
