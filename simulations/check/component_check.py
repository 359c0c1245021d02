"""Checks a component against a trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from heliograph.core.errors import Refused
from heliograph.simulations.check.feed_agent import check_agents
from heliograph.simulations.check.feed_aggregation import check_aggregation
from heliograph.simulations.check.feed_coordinator import check_coordinator
from heliograph.simulations.check.findings import Run
from heliograph.simulations.check.material import Material

Component = Literal["coordinator", "aggregation", "agent"]
COMPONENTS: tuple[str, ...] = get_args(Component)


def check(path: Path, component: str, edge: str | None = None, job: str = "") -> Run:
    """Feeds a component what a trace holds of its inputs, in virtual time, and compares what it says.

    Args:
        component: ``coordinator``, ``aggregation`` or ``agent``.
        edge: the agent's; None: each in turn.
        job: compare only what is of this job or service, and feed an aggregation worker only of this job.

    Raises Refused where the trace holds no input for it, or the component, edge or job is unknown; what
    ``TraceReader`` raises. Runs an event loop of its own: where one is running already, call it in a thread.
    """
    if component not in COMPONENTS:
        expected = f"one of {', '.join(COMPONENTS)}"
        raise Refused("unknown-component", field="component", expected=expected, got=component)
    if edge is not None and component != "agent":
        raise Refused("invalid", field="edge", expected="none: only an agent has one", got=edge)
    material = Material.read(path)
    found = _FEEDS[component](material, edge, job)
    found.missing += [f"not readable: {each}" for each in material.problems]
    return found


def _coordinator(material: Material, edge: str | None, job: str) -> Run:
    return check_coordinator(material, job)


def _aggregation(material: Material, edge: str | None, job: str) -> Run:
    return check_aggregation(material, job)


_FEEDS: dict[str, Callable[[Material, str | None, str], Run]] = {
    "coordinator": _coordinator,
    "aggregation": _aggregation,
    "agent": check_agents,
}
