"""Aggregation alone: 16 updates of 25 million float32 read, checked by nobody, summed, hashed and written; and, in the
same run, copying 1 GB in memory, which is what it is compared with."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from heliograph.bus import tensors
from heliograph.workers.algorithms import choose
from heliograph.workers.blocks import Input, aggregate

UPDATES = 16
ELEMENTS = 25_000_000


def run(repeats: int = 5) -> dict[str, list[float]]:
    """Seconds of each repeat: ``aggregate`` and ``copy`` of 1 GB."""
    _, combine = choose("FedAvg", {})
    result: dict[str, list[float]] = {"aggregate": [], "copy": []}
    with tempfile.TemporaryDirectory(prefix="heliograph-sum-") as name:
        directory = Path(name)
        inputs = {}
        for number in range(UPDATES):
            array = np.random.default_rng(number).random(ELEMENTS, dtype=np.float32)
            ref = tensors.write({"w": array}, directory)
            inputs[f"edge-{number}"] = Input(directory / ref.digest, 10.0 + number)
        source = np.ones(125_000_000, np.float64)
        target = np.zeros_like(source)
        for _ in range(repeats):
            began = time.perf_counter()
            np.copyto(target, source)
            result["copy"].append(time.perf_counter() - began)
            began = time.perf_counter()
            aggregate(inputs, combine, directory / "out")
            result["aggregate"].append(time.perf_counter() - began)
    return result


if __name__ == "__main__":
    json.dump(run(), sys.stdout)
