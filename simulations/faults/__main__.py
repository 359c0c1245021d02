"""Inflict random faults on real processes, and check the invariants (``make chaos SEED=… MINUTES=…``)."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from heliograph.core.world import World
from heliograph.simulations.faults import chaos
from heliograph.simulations.faults.fault_plan import plan


def main() -> int:
    parser = argparse.ArgumentParser(prog="heliograph.simulations.faults", description=__doc__)
    parser.add_argument("--seed", default="1", help="seed of the faults and the data; a failing run prints it")
    parser.add_argument("--minutes", type=float, default=1.5, help="duration of the faults")
    parser.add_argument("--cluster", type=int, choices=(1, 3, 5), default=1, metavar="1|3|5",
                        help="nats-servers of the cloud, of which one is away at a time")  # fmt: skip
    arguments = parser.parse_args()
    seconds = arguments.minutes * 60
    faults = plan(arguments.seed, seconds, chaos.EDGES, arguments.cluster)
    print(f"seed {arguments.seed}: {len(faults)} faults in {seconds:g} s", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="heliograph-chaos-"))
    try:
        outcome = asyncio.run(chaos.run(faults, seconds, arguments.seed, directory, World(), arguments.cluster))
    except BaseException:
        print(f"seed {arguments.seed}: the run failed; the processes' output is in {directory}")
        raise
    for line in outcome.summary():
        print(line)
    if not outcome.violations:
        shutil.rmtree(directory)
        print("every invariant holds")
        return 0
    print("\nthe plan:", *map(str, faults), sep="\n")
    print("\nthe timeline:", *outcome.timeline.lines, sep="\n")
    print("\nviolations:", *outcome.violations, sep="\n  ")
    command = f"make chaos SEED={arguments.seed} MINUTES={arguments.minutes:g}"
    command += f" CLUSTER={arguments.cluster}" if arguments.cluster > 1 else ""
    print(f"\nto repeat the same faults: {command}\nthe processes' output is in {directory}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
