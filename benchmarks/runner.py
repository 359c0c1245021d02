"""Runs benchmarks: each run in a fresh process, a group's in turns, so that what the machine does meanwhile meets all
of a group alike."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from benchmarks.declaration import Benchmark, Samples, Unavailable
from benchmarks.figure import Figure, figures, ratios


class Failed(Exception):
    """A run that did not come to its end; the message says why."""


@dataclass
class Outcome:
    """What a run of the whole found. A benchmark is in one of the three, by its name; the last two say why."""

    figures: list[Figure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


Measure = Callable[[Benchmark], Samples]
Tell = Callable[[Benchmark, int], None]


def run(chosen: Sequence[Benchmark], measure: Measure, tell: Tell, repeats: int | None = None) -> Outcome:
    """Measures each benchmark so often as it declares, or ``repeats`` times; ``tell`` is called before each run.

    One that fails once is not run again and has no figures: others go on. A peer that fails is passed over.
    """
    outcome, found = Outcome(), {each.name: list[Samples]() for each in chosen}
    for each in chosen:
        try:
            if each.prepare is not None:
                tell(each, 0)
                each.prepare()
        except Unavailable as error:
            outcome.skipped[each.name] = str(error)
    for each, number in turns(chosen, repeats):
        if each.name in outcome.skipped or each.name in outcome.failed:
            continue
        tell(each, number)
        try:
            samples = measure(each)
            figures(each, [samples])
            found[each.name].append(samples)
        except (Failed, ValueError) as error:
            (outcome.skipped if each.peer else outcome.failed)[each.name] = str(error)
    told = [each for each in chosen if each.name not in outcome.skipped and each.name not in outcome.failed]
    for each in told:
        outcome.figures += figures(each, found[each.name])
    outcome.figures += ratios(told, found)
    return outcome


def turns(chosen: Sequence[Benchmark], repeats: int | None = None) -> list[tuple[Benchmark, int]]:
    """The order of runs, counted from 1: group after group, in a group one of each, then the second of each, …"""
    order = []
    for _, group in groupby(sorted(chosen, key=_place(chosen)), key=lambda each: each.group):
        members = list(group)
        counts = [repeats or each.repeats for each in members]
        for number in range(max(counts)):
            order += [(each, number + 1) for each, count in zip(members, counts, strict=True) if number < count]
    return order


def in_fresh_process(benchmark: Benchmark, log: Path) -> Samples:
    """One run by ``once.py``. Raises Failed with the reason; what the run printed to stderr is added to the log."""
    argv = [sys.executable, "-m", f"{__package__}.once", benchmark.name, str(benchmark.timeout)]
    with log.open("ab") as errors:
        errors.write(f"\n== {benchmark.name}\n".encode())
        errors.flush()
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                                 start_new_session=True)  # fmt: skip
        try:
            out, _ = child.communicate()
        except BaseException:  # an interrupt is ours alone: the child is told, and ends what it has started
            child.terminate()
            child.wait()
            raise
    lines = out.splitlines() or [f"ended with exit code {child.returncode}"]
    if child.returncode:
        raise Failed(f"{lines[-1]} (more in {log})")
    found: dict[str, list[float]] = json.loads(lines[-1])
    return found


def _place(chosen: Sequence[Benchmark]) -> Callable[[Benchmark], int]:
    first: dict[str, int] = {}
    for number, each in enumerate(chosen):
        first.setdefault(each.group, number)
    return lambda each: first[each.group]
