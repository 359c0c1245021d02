"""Recorded traces as tests: feed a component its recorded inputs and compare its messages with the recorded ones.

    run = await trace("flaky.mcap").replay("aggregation")
    assert run.published == run.recorded

With pytest the fixture ``trace`` finds the file beside the test; see ``heliograph.testing.plugin``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heliograph.simulations.check.component_check import Component
    from heliograph.simulations.check.findings import ReplayRun

__all__ = ["TraceUnderTest", "trace"]


@dataclass(frozen=True)
class TraceUnderTest:
    """A recorded trace that tests a component."""

    path: Path

    async def replay(self, component: Component, edge: str | None = None, job: str = "") -> ReplayRun:
        """Feed the component its recorded inputs in virtual time, in a thread beside the running event loop.

        Args:
            component: ``coordinator``, ``aggregation`` or ``agent``.
            edge: the agent's edge; None checks each edge's agent in turn.
            job: name of a job or service whose messages alone are compared; empty for all.

        Returns:
            The published and the recorded messages: ``run.published == run.recorded`` if they are equal, and
            ``run.equal`` if the trace has all inputs too.

        Raises:
            Refused: if the trace has no inputs of the component.
        """
        from heliograph.core.world import World

        found: ReplayRun = await World().in_thread(self.replay_sync, component, edge, job)
        return found

    def replay_sync(self, component: Component, edge: str | None = None, job: str = "") -> ReplayRun:
        """Do the same as ``replay`` without an event loop, blocking the caller."""
        from heliograph.simulations.check.component_check import check

        return check(self.path, component, edge, job)


def trace(path: str | Path) -> TraceUnderTest:
    """Return the trace of a file."""
    return TraceUnderTest(Path(path))
