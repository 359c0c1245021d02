"""The launcher of a simulated agent: each worker is a process of the simulation, with its files on this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from heliograph.edge_agent.launcher import LaunchRequest, RunningWorker
from heliograph.edge_agent.shared_directory import SharedDirectory
from heliograph.simulations.virtual.loop import Process
from heliograph.simulations.virtual.worlds import Worlds

Offers = Callable[[], Awaitable[bytes]]


class VirtualLauncher(SharedDirectory):
    """A launcher of workers for the agent ``parent``.

    Args:
        offering: function that returns the workers' offers as JSON of ``Offer``.
    """

    def __init__(self, worlds: Worlds, parent: Process, directory: Path, offering: Offers) -> None:
        super().__init__(directory)
        self._worlds = worlds
        self._parent = parent
        self._offering = offering

    async def launch(self, request: LaunchRequest) -> RunningWorker:
        return self._worlds.launch(self._parent, request, self.of(request.worker))

    async def offers(self) -> bytes:
        return await self._offering()
