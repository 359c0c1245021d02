"""What a scenario plays on: a cluster in virtual time, or one of real processes behind the same few words."""

from __future__ import annotations

from typing import Protocol

from heliograph.bus.transport import Bus
from heliograph.core.world import World


class Stage(Protocol):
    """A cluster whose links, processes, disks and clocks can be tampered with. ``world`` is the driver's own: its
    clock and sleep are those of the stage."""

    @property
    def world(self) -> World: ...

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    def bus(self) -> Bus:
        """An operator's connection."""
        ...

    def set_link(
        self, edge: str, *, up: bool | None = None, latency: float | None = None, bandwidth: float | None = None,
        loss: float | None = None,
    ) -> None:  # fmt: skip
        """Changes an edge's link to the cloud; None leaves as it is. Latency in seconds one way, bandwidth in bytes
        per second, 0 without a limit."""
        ...

    async def kill(self, name: str) -> None:
        """An edge's agent with its workers, ``cloud``, ``coordinator``, or ``worker <edge>``."""
        ...

    async def start_process(self, name: str) -> None: ...
    def disk_full(self, edge: str, full: bool) -> None: ...
    def set_clock(self, name: str, ahead: float) -> None:
        """Seconds by which the clock of an edge, ``cloud`` or ``coordinator`` is ahead; 0 sets it right."""
        ...
