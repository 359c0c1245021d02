"""The peers that install and run here, and the questions that they and we answer alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.declaration import Benchmark, Metric, Samples
from benchmarks.peers import flower, nvflare, openfl

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
