"""Equal seeds give equal bytes, independent of the interpreter's hash seed; different seeds give different bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from heliograph.bus.traces.reading import TraceReader

SCENARIO = """
name: small
edges: [{number: 5, speed: [0.5, 2]}]
data: {set: synthetic, partition: "dirichlet:0.5", samples: 400, held_out: 100}
links: {latency: [10ms, 50ms], loss: 0.02, outages: [{mean_up: 20s, mean_down: 5s}]}
jobs: [{name: job, rounds: 4, participants: all, quorum: 3, deadline: 20s, training: {local_epochs: 1}}]
faults: [{kind: crash-agent, targets: 1, at: 3s, for: 2s}, {kind: crash-coordinator, at: 6s, for: 1s}]
"""


def _trace(directory: Path, seed: int, hashing: str) -> bytes:
    file = directory / "small.yaml"
    file.write_text(SCENARIO)
    out = directory / f"{seed}-{hashing}.mcap"
    words = ["simulate", str(file), "--seed", str(seed), "--trace", str(out)]
    environment = {**os.environ, "PYTHONHASHSEED": hashing}
    subprocess.run([sys.executable, "-m", "heliograph.cli.main", *words], env=environment, check=True)
    return out.read_bytes()


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    one, again, other = (_trace(tmp_path, seed, hashing) for seed, hashing in ((3, "1"), (3, "2"), (4, "1")))
    assert hashlib.sha256(one).hexdigest() == hashlib.sha256(again).hexdigest()
    assert one != other
    with TraceReader(tmp_path / "3-1.mcap") as reader:
        topics = [each.topic for each in reader]
    assert any(topic.endswith("/up/model-update/job") for topic in topics)
    assert not any(topic.startswith("_INBOX") for topic in topics)
