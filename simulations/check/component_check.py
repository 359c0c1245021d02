"""The check of a component against a trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from heliograph.core.errors import Refused
from heliograph.simulations.check.feed_agent import check_agents
from heliograph.simulations.check.feed_aggregation import check_aggregation
from heliograph.simulations.check.feed_coordinator import check_coordinator
from heliograph.simulations.check.findings import ReplayRun
from heliograph.simulations.check.loaded_trace import LoadedTrace

Component = Literal["coordinator", "aggregation", "agent"]
COMPONENTS: tuple[str, ...] = get_args(Component)


def check(path: Path, component: str, edge: str | None = None, job: str = "") -> ReplayRun:
    """Feed a component its inputs from a trace, in virtual time, and compare its messages with the recorded ones.

    Args:
        component: ``coordinator``, ``aggregation`` or ``agent``.
        edge: the agent's edge; None checks each edge in turn.
        job: compare only messages of this job or service, and feed only this job's aggregation worker.

    Raises Refused if the trace has no input for the component, or if component, edge or job is unknown, and the errors
    of ``TraceReader``. It runs its own event loop; call it in a thread if another loop is running.
    """
    if component not in COMPONENTS:
        expected = f"one of {', '.join(COMPONENTS)}"
        raise Refused("unknown-component", field="component", expected=expected, got=component)
    if edge is not None and component != "agent":
        raise Refused("invalid", field="edge", expected="none: only an agent has an edge", got=edge)
    trace = LoadedTrace.read(path)
    found = _FEEDS[component](trace, edge, job)
    found.missing += [f"not readable: {each}" for each in trace.problems]
    found.missing += [f"signature does not hold: {each}" for each in trace.forged]
    found.signatures = dict(trace.signatures)
    return found


def _coordinator(trace: LoadedTrace, edge: str | None, job: str) -> ReplayRun:
    return check_coordinator(trace, job)


def _aggregation(trace: LoadedTrace, edge: str | None, job: str) -> ReplayRun:
    return check_aggregation(trace, job)


_FEEDS: dict[str, Callable[[LoadedTrace, str | None, str], ReplayRun]] = {
    "coordinator": _coordinator,
    "aggregation": _aggregation,
    "agent": check_agents,
}
