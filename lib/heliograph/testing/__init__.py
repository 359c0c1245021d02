"""Recorded traces as tests: a component is fed what it was fed when a trace was recorded, and has to say the same.

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
    """A recorded trace that a component is tested with."""

    path: Path

    async def replay(self, component: Component, edge: str | None = None, job: str = "") -> ReplayRun:
        """Feeds the component what the trace holds of its inputs, in virtual time, beside the running event loop.

        Args:
            component: ``coordinator``, ``aggregation`` or ``agent``.
            edge: the agent's; None: each edge's in turn.
            job: only what is of this job or service.

        Returns what it published beside what was recorded; ``run.published == run.recorded`` where nothing differs,
        and ``run.equal`` where it was given all its inputs, too. Raises Refused where the trace holds none of them.
        """
        from heliograph.core.world import World

        found: ReplayRun = await World().in_thread(self.replay_sync, component, edge, job)
        return found

    def replay_sync(self, component: Component, edge: str | None = None, job: str = "") -> ReplayRun:
        """The same where no event loop runs."""
        from heliograph.simulations.check.component_check import check

        return check(self.path, component, edge, job)


def trace(path: str | Path) -> TraceUnderTest:
    """The trace in a file."""
    return TraceUnderTest(Path(path))
