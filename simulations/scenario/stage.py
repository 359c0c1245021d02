"""The interface of a cluster that plays a scenario, in virtual time or with real processes."""

from __future__ import annotations

from typing import Protocol

from heliograph.bus.transport import Bus
from heliograph.core.world import World


class Stage(Protocol):
    """A cluster whose links, processes, disks and clocks can be disturbed. ``world`` has its clock and its sleep."""

    @property
    def world(self) -> World: ...

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    def bus(self) -> Bus:
        """Return an operator's connection."""
        ...

    def set_link(
        self, edge: str, *, up: bool | None = None, latency: float | None = None, bandwidth: float | None = None,
        loss: float | None = None,
    ) -> None:  # fmt: skip
        """Change an edge's link to the cloud; None changes nothing.

        Args:
            latency: seconds, one way.
            bandwidth: bytes per second; 0 sets no limit.
            loss: share of messages that must be sent again.
        """
        ...

    async def kill(self, name: str) -> None:
        """Kill an edge's agent with its workers, ``cloud``, ``coordinator``, or ``worker <edge>``."""
        ...

    async def start_process(self, name: str) -> None: ...
    def disk_full(self, edge: str, full: bool) -> None: ...
    def set_clock(self, name: str, ahead: float) -> None:
        """Set the clock of an edge, ``cloud`` or ``coordinator`` ahead by so many seconds; 0 corrects it."""
        ...
