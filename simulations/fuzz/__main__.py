"""Play random clusters under random faults in virtual time, and check the invariants (``make fuzz SEEDS=1000``)."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.simulations.fuzz import failure
from heliograph.simulations.fuzz.campaign import verdicts
from heliograph.simulations.fuzz.draw import draw
from heliograph.simulations.fuzz.plan import Plan
from heliograph.simulations.fuzz.played_plan import play

SHRUNK = 3
"""Number of failing seeds that are shrunk; further ones are only listed."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="heliograph.simulations.fuzz", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="number of seeds to play")
    parser.add_argument("--from", type=int, default=1, dest="first", help="first seed")
    parser.add_argument("--seed", help="play this seed only, and print its run")
    parser.add_argument("--plan", type=Path, help="play the plan in this file, and print its run")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="folder for failing plans")
    parser.add_argument("--no-shrink", action="store_true", help="do not search for a smaller failing plan")
    options = parser.parse_args(arguments)
    try:
        if options.plan is not None:
            return _replay(failure.read(options.plan))
        if options.seed is not None:
            plan = draw(options.seed)
            return _replay(plan) and _shrink(plan, options.out, options.no_shrink)
        return _campaign(options)
    except HeliographError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _campaign(options: argparse.Namespace) -> int:
    world = World()
    began = world.monotonic()
    seeds = [str(options.first + number) for number in range(options.seeds)]
    failed: list[str] = []
    kinds: Counter[str] = Counter()
    bar = Progress(TextColumn("seeds"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                   console=Console(stderr=True))  # fmt: skip
    with bar:
        task = bar.add_task("seeds", total=len(seeds))
        for found in verdicts(seeds, options.jobs):
            bar.advance(task)
            if found.violated:
                failed.append(found.seed)
                kinds.update(found.violated)
                print(f"seed {found.seed} fails: {', '.join(found.violated)}\n  {found.texts[0]}", flush=True)
    seconds = world.monotonic() - began
    print(f"{len(seeds)} seeds in {seconds:.0f} s, {len(seeds) / seconds:.1f} per second")
    if not failed:
        print("every invariant holds")
        return 0
    failed.sort(key=int)
    violated = ", ".join(f"{name} {count}" for name, count in sorted(kinds.items()))
    print(f"{len(failed)} of {len(seeds)} seeds fail ({violated}): {' '.join(failed)}")
    for seed in failed[:SHRUNK]:
        _shrink(draw(seed), options.out, options.no_shrink)
    return 1


def _replay(plan: Plan) -> int:
    outcome = play(plan)
    print(failure.describe(plan, outcome))
    print("every invariant holds" if not outcome.violations else f"{len(outcome.violations)} violations")
    return 1 if outcome.violations else 0


def _shrink(plan: Plan, out: Path, no_shrink: bool) -> int:
    """Write a failing plan and, unless ``no_shrink``, a smaller one."""
    file = failure.write(plan, out / f"seed-{plan.seed}.json")
    print(f"\nto repeat seed {plan.seed}: {failure.COMMAND} --seed {plan.seed}, or --plan {file}")
    if no_shrink:
        return 1
    violated = {each.invariant for each in play(plan).violations}
    shrunk = failure.reduce(plan, violated)
    outcome = play(shrunk.plan)
    small = failure.write(shrunk.plan, out / f"seed-{plan.seed}.small.json")
    small.with_suffix(".txt").write_text(failure.describe(shrunk.plan, outcome))
    print(f"shrunk in {shrunk.runs} runs to {len(shrunk.plan.faults)} faults:\n\n{shrunk.plan}\n")
    print(*(f"{each.invariant}: {each}" for each in outcome.violations), sep="\n")
    traced = failure.trace(shrunk.plan, small.with_suffix(".mcap"))
    print(f"\nreplay: {failure.COMMAND} --plan {small}\nprocesses' output: {small.with_suffix('.txt')}"
          + (f"\ntrace: {small.with_suffix('.mcap')}" if traced else ""))  # fmt: skip
    return 1


if __name__ == "__main__":
    sys.exit(main())
