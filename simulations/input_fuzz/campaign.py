"""Play many inputs, target after target, for a number of seconds or of inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from heliograph.core.world import World, seeded
from heliograph.simulations.input_fuzz.catalog import target_of
from heliograph.simulations.input_fuzz.finding import Finding
from heliograph.simulations.input_fuzz.sandbox import Sandbox


@dataclass
class Tally:
    """The inputs of one target so far."""

    played: int = 0
    accepted: int = 0
    findings: list[Finding] = field(default_factory=list)
    """The first input of each fault."""


def input_of(target: str, seed: int, number: int) -> bytes:
    """Return an input by its numbers, the same on every machine."""
    return target_of(target).input(seeded(f"input/{seed}/{target}/{number}"))


def play(target: str, seed: int, sandbox: Sandbox, go_on: Callable[[int], bool]) -> Tally:
    """Play inputs of a target while ``go_on``, called with their number so far, is true."""
    tally = Tally()
    kinds: set[str] = set()
    for number in count():
        if not go_on(number):
            return tally
        data = input_of(target, seed, number)
        verdict = sandbox.read(target, data)
        tally.played += 1
        tally.accepted += verdict.accepted
        if verdict.fault is not None and verdict.fault.kind not in kinds:
            kinds.add(verdict.fault.kind)
            tally.findings.append(Finding(target, verdict.fault, data))
    raise AssertionError


def until(world: World, seconds: float) -> Callable[[int], bool]:
    """Return a condition that holds for so many seconds."""
    end = world.monotonic() + seconds
    return lambda number: world.monotonic() < end


def shares(targets: Sequence[str], seconds: float) -> Iterator[tuple[str, float]]:
    """Yield each target with its share of the time."""
    for target in targets:
        yield target, seconds / len(targets)
