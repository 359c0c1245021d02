"""Robust rules against faulty participants: accuracy on scikit-learn's digits, with 4 of 20 edges faulty.

    python -m benchmarks.quality.attacks

The goal: each rule within 3 points of the same rule without an attack, whatever the faulty edges send.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from benchmarks.quality.classifier import Arrays, Part, accuracy, network
from benchmarks.quality.played_clients import Attack, Clients

EDGES, FAULTY, ROUNDS, HELD_OUT = 20, frozenset((3, 7, 12, 18)), 40, 400
WITHIN = 0.03
RULES: dict[str, dict[str, Any]] = {
    "FedAvg": {},
    "Median": {"byzantine": 4},
    "TrimmedMean": {"trimmed": 4},
    "Krum": {"byzantine": 4},
    "MultiKrum": {"byzantine": 4},
    "Bulyan": {"byzantine": 4},
    "RFA": {"byzantine": 4},
    "NormClipping": {},
}


def flipped(base: Arrays, update: Arrays, round: int) -> Arrays:
    """Return the update's change in the other direction."""
    return {name: 2 * base[name] - array for name, array in update.items()}


def thousandfold(base: Arrays, update: Arrays, round: int) -> Arrays:
    """Return a thousand times the update's change."""
    return {name: base[name] + 1000 * (array - base[name]) for name, array in update.items()}


def nan(base: Arrays, update: Arrays, round: int) -> Arrays:
    """Return no numbers."""
    return {name: np.full_like(array, np.nan) for name, array in update.items()}


def constant(base: Arrays, update: Arrays, round: int) -> Arrays:
    """Return ones."""
    return {name: np.ones_like(array) for name, array in update.items()}


def stale(base: Arrays, update: Arrays, round: int) -> Arrays:
    """Return the weights that the first round began with, in every round."""
    return network((64, 64, 10), 0)


ATTACKS: dict[str, Attack | None] = {
    "clean": None, "flipped": flipped, "x1000": thousandfold, "nan": nan, "constant": constant, "stale": stale,
}  # fmt: skip


def run(rule: str, attack: Attack | None, parts: list[Part], test: Part) -> float:
    """Return the accuracy after the last round."""
    clients = Clients(parts, rule, RULES[rule], network((64, 64, 10), 0), rate=0.1, seed=1, drawn=EDGES, batch=16,
                      epochs=lambda client, round: 2, attack=attack, faulty=FAULTY)  # fmt: skip
    for number in range(1, ROUNDS + 1):
        clients.round(number)
    return accuracy(clients.model, test)


def main() -> int:
    """Print the table; return 1 where a robust rule misses the goal."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = (x[order] / 16).astype(np.float32), y[order]
    test = x[:HELD_OUT], y[:HELD_OUT]
    rows = np.array_split(np.arange(HELD_OUT, len(y)), EDGES)
    parts = [(x[each], y[each]) for each in rows]
    missed = False
    print("rule".ljust(14) + "".join(f"{name:>10}" for name in ATTACKS))
    for rule in RULES:
        found = {name: run(rule, attack, parts, test) for name, attack in ATTACKS.items()}
        print(rule.ljust(14) + "".join(f"{each:10.3f}" for each in found.values()), flush=True)
        missed |= rule != "FedAvg" and min(found.values()) < found["clean"] - WITHIN
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
