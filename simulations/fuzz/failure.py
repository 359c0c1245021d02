"""A failing plan: shrink it, write it to a file, read it again, and describe its run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from heliograph.core.errors import HeliographError, Refused
from heliograph.simulations.fuzz.plan import Plan
from heliograph.simulations.fuzz.played_plan import Outcome, play
from heliograph.simulations.fuzz.shrink import Shrunk, shrink

COMMAND = "python -m heliograph.simulations.fuzz"


def read(file: Path) -> Plan:
    """Read a plan. Raises Refused, which names the wrong field."""
    try:
        plan = Plan.model_validate_json(file.read_text())
    except OSError as error:
        raise HeliographError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise Refused("invalid", field=str(file), expected="a plan of the fuzzer", got=str(error)) from None
    if not plan.is_consistent():
        expected = "faults with targets in the plan that do not overlap on one part, and jobs that its edges can run"
        raise Refused("invalid", field=str(file), expected=expected, got="an inconsistent plan")
    return plan


def write(plan: Plan, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(plan.model_dump_json(indent=1) + "\n")
    return file


def reduce(plan: Plan, violated: Collection[str], progress: Callable[[int], None] = lambda runs: None) -> Shrunk:
    """Return a smaller plan that violates one of the same invariants; call ``progress`` with the number of runs."""
    runs = 0

    def fails(candidate: Plan) -> bool:
        nonlocal runs
        runs += 1
        progress(runs)
        return any(each.invariant in violated for each in play(candidate).violations)

    return shrink(plan, fails)


def describe(plan: Plan, outcome: Outcome) -> str:
    """Return the plan, the processes' output, the violations and the digest as text."""
    violations = [f"{each.invariant}: {each}" for each in outcome.violations]
    return "\n".join([str(plan), "", *outcome.output, "", *violations, "", f"digest {outcome.digest}", ""])


def trace(plan: Plan, file: Path) -> bool:
    """Play a plan once more and write its trace; return whether traces can be written on this machine."""
    try:
        from heliograph.bus.traces.writing import TraceWriter

        with TraceWriter(file, metadata={"fuzz": plan.seed}, overwrite=True) as writer:
            play(plan, writer.write)
    except HeliographError:  # the traces' library is not installed
        return False
    return True
