"""A data set that an edge records of its devices' messages: rows on the disk, versions of them, and reading one. The
recorder runs in a process of its own, as in an agent without NumPy, whose memory is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.declaration import Samples
from benchmarks.processes import resident_alone
from heliograph.bus.contract.event import Event
from heliograph.core.world import World, rfc3339

MESSAGES, GROUP, FIELDS = 200_000, 1000, ("x", "y", "z")
KEPT_MB = 2
"""Room that the rows have: about half of them stay."""
VERSIONS = 20


def run() -> Samples:
    """Return ``record``, rows a second from a message to the disk, ``version``, seconds until a version of all rows
    lies there, ``read``, rows a second of it as arrays, ``disk``, the bytes of all files of rows, at most, as a share
    of the quota, and ``more``, the recorder's growth of memory in MB of 2^20 bytes."""
    with tempfile.TemporaryDirectory(prefix="heliograph-recorded-") as directory:
        child = [sys.executable, "-m", "benchmarks.recorded_rows", directory]
        found = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
        from heliograph.dataset_arrays import arrays

        began = time.perf_counter()
        rows = arrays(Path(found.pop("path")))
        seconds = time.perf_counter() - began
    count = len(rows["x"])
    assert rows["x"].shape == (count, len(FIELDS)) and rows["x"][-1].tolist() == [MESSAGES - 1, 0.5, 0.25]
    assert found.pop("recorded") == MESSAGES and count + found.pop("dropped") == MESSAGES
    return {name: [value] for name, value in (found | {"read": count / seconds}).items()}


def record(directory: Path) -> dict[str, float | str]:
    """Record all messages under a quota, with a version from time to time; return what ``run`` tells, and the newest
    version's path."""
    from heliograph.bus.contract.resources.telemetry_source import TelemetrySource
    from heliograph.edge_agent.recording.recording import open_recording

    source = TelemetrySource.model_validate({"fields": [*FIELDS], "keep": {"megabytes": KEPT_MB}})
    rows = open_recording(directory / "rows", source, "journal", World(), _fail, print)
    before, seconds, largest, version = resident_alone(os.getpid()), 0.0, 0, 0.0
    for first in range(0, MESSAGES, GROUP):
        events = [_event(number) for number in range(first, first + GROUP)]
        began = time.perf_counter()
        rows.begin()
        for number, event in enumerate(events, first + 1):
            rows.take(number, "press", "event/telemetry/edge-1/press", event)
        rows.commit(first + GROUP)
        seconds += time.perf_counter() - began
        if (first + GROUP) % (MESSAGES // VERSIONS) == 0:
            began = time.perf_counter()
            made = rows.make_version()
            version = time.perf_counter() - began
            assert made is not None
            rows.keep_only({made.path})
            path = made.path
            files = {each.stat().st_ino: each.stat().st_size for each in directory.rglob("*.npz")}
            largest = max(largest, sum(files.values()))  # a version's files are those of the rows, linked
    counts = rows.counts
    return {
        "record": MESSAGES / seconds, "version": version, "disk": largest / 2**20 / KEPT_MB,
        "more": (resident_alone(os.getpid(), "VmHWM") - before) / 2**20, "path": str(path), "recorded": counts.recorded,
        "dropped": counts.dropped,
    }  # fmt: skip


def _event(number: int) -> Event:
    data = {"x": float(number), "y": 0.5, "z": 0.25}
    return Event("id", "edge-1/press/mqtt", "heliograph.telemetry.v1", data, rfc3339(1e9 + number))


def _fail(address: str, error: Exception) -> None:
    raise AssertionError(address) from error


if __name__ == "__main__":
    print(json.dumps(record(Path(sys.argv[1]))))
