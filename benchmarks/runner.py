"""Running benchmarks: each run in a fresh process, the benchmarks of a group in turns.

Turns make other load on the machine meet all benchmarks of a group alike.
"""

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
    """A run failed; the message says why."""


@dataclass
class Outcome:
    """The result of running the chosen benchmarks: figures, and by benchmark why it was skipped or failed."""

    figures: list[Figure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


Measure = Callable[[Benchmark], Samples]
Progress = Callable[[Benchmark, int], None]
"""Called with a benchmark and the number of its next run, from 1; with 0 before it is prepared."""


def run(chosen: Sequence[Benchmark], measure: Measure, progress: Progress, repeats: int | None = None) -> Outcome:
    """Measure each benchmark as often as it declares, or ``repeats`` times; call ``progress`` before each run.

    A benchmark that fails is not run again and has no figures; the others go on. A peer that fails counts as skipped.
    """
    outcome, found = Outcome(), {each.name: list[Samples]() for each in chosen}
    for each in chosen:
        try:
            if each.prepare is not None:
                progress(each, 0)
                each.prepare()
        except Unavailable as error:
            outcome.skipped[each.name] = str(error)
    for each, number in turns(chosen, repeats):
        if each.name in outcome.skipped or each.name in outcome.failed:
            continue
        progress(each, number)
        try:
            samples = measure(each)
            figures(each, [samples])
            found[each.name].append(samples)
        except (Failed, ValueError) as error:
            (outcome.skipped if each.peer else outcome.failed)[each.name] = str(error)
    measured = [each for each in chosen if each.name not in outcome.skipped and each.name not in outcome.failed]
    for each in measured:
        outcome.figures += figures(each, found[each.name])
    outcome.figures += ratios(measured, found)
    return outcome


def turns(chosen: Sequence[Benchmark], repeats: int | None = None) -> list[tuple[Benchmark, int]]:
    """Return the runs in order, numbered from 1: group by group, within a group every first run, every second run …"""
    order = []
    for _, group in groupby(sorted(chosen, key=_group_order(chosen)), key=lambda each: each.group):
        members = list(group)
        counts = [repeats or each.repeats for each in members]
        for number in range(max(counts)):
            order += [(each, number + 1) for each, count in zip(members, counts, strict=True) if number < count]
    return order


def in_fresh_process(benchmark: Benchmark, log: Path) -> Samples:
    """Run ``single_run.py`` and return its samples; append its stderr to the log. Raises Failed with the reason."""
    argv = [sys.executable, "-m", f"{__package__}.single_run", benchmark.name, str(benchmark.timeout)]
    with log.open("ab") as errors:
        errors.write(f"\n== {benchmark.name}\n".encode())
        errors.flush()
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                                 start_new_session=True)  # fmt: skip
        try:
            out, _ = child.communicate()
        except BaseException:  # only this process gets an interrupt; the child must end the processes it has started
            child.terminate()
            child.wait()
            raise
    lines = out.splitlines() or [f"ended with exit code {child.returncode}"]
    if child.returncode:
        raise Failed(f"{lines[-1]} (more in {log})")
    found: dict[str, list[float]] = json.loads(lines[-1])
    return found


def _group_order(chosen: Sequence[Benchmark]) -> Callable[[Benchmark], int]:
    first: dict[str, int] = {}
    for number, each in enumerate(chosen):
        first.setdefault(each.group, number)
    return lambda each: first[each.group]
