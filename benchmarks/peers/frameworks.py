"""The peers that install and run here, and the questions that they and Heliograph both answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.declaration import Benchmark, Metric, Samples
from benchmarks.peers import flower, nvflare, openfl

SIZES = {"1 MB": 1_000_000, "10 MB": 10_000_000, "100 MB": 100_000_000}
EDGES = 4
ROUNDS = 3
"""Rounds of a peer in each turn; few, because some peers take ten seconds for a round."""
TURNS = 2


def round_metrics(size: str, target: float | None = None, aggregating: float | None = None) -> tuple[Metric, ...]:
    """Return the metrics of echo rounds with a model of that size, for Heliograph and for each peer."""

    def metric(key: str, title: str, unit: str, target: float | None = None, paired: bool = False) -> Metric:
        question = f"{title}, {size} × {EDGES}"
        return Metric(key, question, unit, target, question=question, paired=paired)

    return (
        metric("round", "echo round", "ms", target, paired=True),
        metric("aggregating", "aggregator's peak", "MB", aggregating),
        metric("servers", "all servers' peak", "MB"),
        metric("idle", "idle edge node", "MB"),
    )


def contestants() -> list[Benchmark]:
    """Return the benchmark of each peer at each size, in the group of our own benchmark: they take turns."""
    small = ("1 MB", "10 MB")
    ways = (
        ("flower", "Flower", flower.deployed, flower.FLOWER, SIZES),
        ("flower-streams", "Flower streams", flower.streams, flower.FLOWER, SIZES),
        ("nvflare", "NVFlare", nvflare.poc, nvflare.NVFLARE, small),
        ("openfl", "OpenFL", openfl.workspace, openfl.OPENFL, small),
    )
    return [_contestant(name, by, run, needs.prepare, size) for name, by, run, needs, sizes in ways for size in sizes]


def _contestant(
    name: str, by: str, measure: Callable[[int, int, int], Samples], prepare: Callable[[], None], size: str
) -> Benchmark:
    word = size.replace(" ", "").lower()
    run = partial(measure, EDGES, SIZES[size], ROUNDS)
    return Benchmark(f"{name}-{word}", f"echo-{word}", run, round_metrics(size), TURNS, 600, by, prepare)
