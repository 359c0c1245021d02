"""Give hostile inputs to every reader, and to a live cluster (``make fuzz-input SECONDS=60``)."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.simulations.input_fuzz import finding, live
from heliograph.simulations.input_fuzz.campaign import play, shares, until
from heliograph.simulations.input_fuzz.catalog import TARGETS, target_of
from heliograph.simulations.input_fuzz.finding import Finding
from heliograph.simulations.input_fuzz.sandbox import Sandbox

LIVE = "live"
LIVE_SHARE = 0.4
"""Share of the time for the live cluster."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="heliograph.simulations.input_fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of fuzzing, over all targets")
    parser.add_argument("--seed", type=int, default=1, help="decides all inputs")
    parser.add_argument("--target", action="append", help=f"play this target only: {', '.join(TARGETS)} or {LIVE}")
    parser.add_argument("--replay", type=Path, help="read this input again, or play this batch of messages")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz-input"), help="folder for failing inputs")
    options = parser.parse_args(arguments)
    try:
        if options.replay is not None:
            return _replay(options.replay)
        targets = options.target or [*TARGETS, LIVE]
        return _fuzz(targets, options.seconds, options.seed, options.out)
    except HeliographError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _fuzz(targets: Sequence[str], seconds: float, seed: int, out: Path) -> int:
    readers = [target_of(name).name for name in targets if name != LIVE]
    share = LIVE_SHARE if readers and LIVE in targets else float(not readers)
    findings = 0
    world = World()
    with Sandbox() as sandbox:
        for name, mine in shares(readers, seconds * (1 - share)):
            tally = play(name, seed, sandbox, until(world, mine))
            print(f"{name}: {tally.played} inputs, {tally.accepted} accepted, {len(tally.findings)} faults", flush=True)
            for found in tally.findings:
                _report(found.minimised(sandbox), out)
            findings += len(tally.findings)
    if share:
        findings += asyncio.run(live.fuzz(seconds * share, seed, out))
    print("every reader holds" if not findings else f"{findings} faults")
    return 1 if findings else 0


def _report(found: Finding, out: Path) -> None:
    print(finding.describe(found, found.write(out)), flush=True)


def _replay(file: Path) -> int:
    if file.suffix == ".json":
        return asyncio.run(live.replay(file))
    with Sandbox() as sandbox:
        found = finding.replay(file, sandbox)
    print("the reader holds" if found is None else finding.describe(found, file))
    return 1 if found is not None else 0


if __name__ == "__main__":
    sys.exit(main())
