"""A replay over a network of the kernel's own that loses a third of its packets: in a network namespace, by netem."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

EVENTS = 100
SHAPE = "tc qdisc add dev lo root netem delay 20ms loss 30% rate 1mbit"
SCRIPT = f"""
import asyncio, json
from dataclasses import asdict
from benchmarks.thin_links import ThinLink, carried
link = ThinLink("netem", 1000, 1000, 2.0, events={EVENTS})
print(json.dumps(asdict(asyncio.run(carried(link, shaped=False)))))
"""
"""Its relay bounds nothing: the kernel does, between all of the processes."""
LONGEST = 1200.0


def in_namespace(*commands: str) -> subprocess.CompletedProcess[str]:
    words = ["unshare", "-rn", "sh", "-c", " && ".join(("ip link set lo up", *commands))]
    return subprocess.run(words, capture_output=True, text=True, timeout=LONGEST)


@pytest.mark.long
def test_everything_arrives_once_though_the_kernel_loses_a_third_of_the_packets() -> None:
    missing = [name for name in ("unshare", "ip", "tc") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not run: {', '.join(missing)} is not installed")
    tried = in_namespace(SHAPE)
    if tried.returncode:
        pytest.skip(f"not run: this kernel has no netem for this user ({tried.stderr.strip()[-80:]})")
    done = in_namespace(SHAPE, f"exec {sys.executable} -c '{SCRIPT}'")
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["lost"], found["doubled"]) == (0, 0)
