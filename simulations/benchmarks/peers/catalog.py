"""The peers that install and run here, and the questions that they and we answer alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from heliograph.simulations.benchmarks.declaration import Benchmark, Metric, Samples
from heliograph.simulations.benchmarks.peers import flower, nvflare

SIZES = {"1 MB": 1_000_000, "10 MB": 10_000_000, "100 MB": 100_000_000}
EDGES = 4
ROUNDS = 3
"""Of a peer in each turn: some of them take ten seconds for one."""
TURNS = 2


def round_metrics(size: str, target: float | None = None, aggregating: float | None = None) -> tuple[Metric, ...]:
    """What is asked about echo rounds of a model of that size: of us, and of each peer."""

    def ask(key: str, title: str, unit: str, most: float | None = None, paired: bool = False) -> Metric:
        question = f"{title}, {size} × {EDGES}"
        return Metric(key, question, unit, most, question=question, paired=paired)

    return (
        ask("round", "echo round", "ms", target, paired=True),
        ask("aggregating", "aggregator's peak", "MB", aggregating),
        ask("servers", "all servers' peak", "MB"),
        ask("idle", "idle edge node", "MB"),
    )


def contestants() -> list[Benchmark]:
    """Each peer at each size, in our own benchmark's group, so that it takes its turn with it."""
    return [
        _contestant("flower", "Flower", flower.deployed, flower.FLOWER.prepare, size)
        for size in SIZES
    ] + [
        _contestant("flower-streaming", "Flower streaming", flower.streaming, flower.FLOWER.prepare, size)
        for size in SIZES
    ] + [
        _contestant("nvflare", "NVFlare", nvflare.poc, nvflare.NVFLARE.prepare, size)
        for size in ("1 MB", "10 MB")
    ]  # fmt: skip


def _contestant(
    name: str, by: str, measure: Callable[[int, int, int], Samples], prepare: Callable[[], None], size: str
) -> Benchmark:
    word = size.replace(" ", "").lower()
    run = partial(measure, EDGES, SIZES[size], ROUNDS)
    return Benchmark(f"{name}-{word}", f"echo-{word}", run, round_metrics(size), TURNS, by=by, prepare=prepare)
