"""Aggregation alone: read 16 unchecked updates of 25 million float32, sum, hash and write them.

The same run copies 1 GB in memory, the yardstick for the aggregation.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.declaration import Samples
from heliograph.bus.contract import weights_file as tensors
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.round_inputs import Input, RoundStart
from heliograph.workers.algorithms import choose

UPDATES = 16
ELEMENTS = 25_000_000


def run(laps: int = 5) -> Samples:
    """Return the seconds of each lap (``aggregate``; ``copy`` of 1 GB) and the ``ratio`` of aggregating to copying as
    many bytes."""
    algorithm = choose("FedAvg", {})
    result: dict[str, list[float]] = {"aggregate": [], "copy": []}
    with tempfile.TemporaryDirectory(prefix="heliograph-sum-") as name:
        directory = Path(name)
        inputs = {}
        for number in range(UPDATES):
            array = np.random.default_rng(number).random(ELEMENTS, dtype=np.float32)
            ref = tensors.write({"w": array}, directory)
            inputs[f"edge-{number}"] = Input(directory / ref.digest, 10.0 + number)
        base = RoundStart(next(iter(inputs.values())).source)
        source = np.ones(125_000_000, np.float64)
        target = np.zeros_like(source)
        for _ in range(laps):
            began = time.perf_counter()
            np.copyto(target, source)
            result["copy"].append(time.perf_counter() - began)
            began = time.perf_counter()
            aggregate(inputs, algorithm, directory / "out", start=base)
            result["aggregate"].append(time.perf_counter() - began)
    gigabytes = 4 * UPDATES * ELEMENTS / 1e9
    pairs = zip(result["aggregate"], result["copy"], strict=True)
    return {**result, "ratio": [aggregating / (gigabytes * copying) for aggregating, copying in pairs]}

