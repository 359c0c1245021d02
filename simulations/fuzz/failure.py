"""A failing plan: shrunk, written down, and told with what replays it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from heliograph.core.errors import HeliographError, Refused
from heliograph.simulations.fuzz.plan import Plan
from heliograph.simulations.fuzz.played_plan import Outcome, play
from heliograph.simulations.fuzz.shrink import Shrunk, shrink

COMMAND = "python -m heliograph.simulations.fuzz"


def read(file: Path) -> Plan:
    """A plan that was written down. Raises Refused naming the field that is wrong."""
    try:
        plan = Plan.model_validate_json(file.read_text())
    except OSError as error:
        raise HeliographError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise Refused("invalid", field=str(file), expected="a plan of the fuzzer", got=str(error)) from None
    if not plan.is_consistent():
        expected = "faults on what the plan has, which do not overlap on one part"
        raise Refused("invalid", field=str(file), expected=expected, got="others")
    return plan


def write(plan: Plan, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(plan.model_dump_json(indent=1) + "\n")
    return file


def reduce(plan: Plan, broken: Collection[str], progress: Callable[[int], None] = lambda runs: None) -> Shrunk:
    """A smaller plan that breaks one of the same invariants. ``progress`` is called with the number of runs so far."""
    runs = 0

    def fails(candidate: Plan) -> bool:
        nonlocal runs
        runs += 1
        progress(runs)
        return any(each.invariant in broken for each in play(candidate).violations)

    return shrink(plan, fails)


def describe(plan: Plan, outcome: Outcome) -> str:
    """The plan, what the processes said, and what does not hold."""
    told = [f"{each.invariant}: {each}" for each in outcome.violations]
    return "\n".join([str(plan), "", *outcome.said, "", *told, "", f"digest {outcome.digest}", ""])


def trace(plan: Plan, file: Path) -> bool:
    """Plays a plan once more into a trace; returns whether that can be written here."""
    try:
        from heliograph.bus.traces.writing import TraceWriter

        with TraceWriter(file, metadata={"fuzz": plan.seed}, overwrite=True) as writer:
            play(plan, writer.write)
    except HeliographError:  # the library for traces is not installed
        return False
    return True
