"""Devices' messages from a bus without sessions, such as that of a simulation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from heliograph.bus.transport import Bus
from heliograph.core.tasks import Flag
from heliograph.edge_agent.devices.message import DeviceMessage, Taking


class DeviceSubscription:
    """Messages from a bus that has no sessions: what comes while the agent is away is lost, as at QoS 0."""

    def __init__(self, bus: Bus, filters: Sequence[str], taking: Taking) -> None:
        self.link = bus.link
        self.listening = asyncio.Event()
        self._bus = bus
        self._taking = taking
        self._may_go_on = Flag()
        self._may_go_on.set()
        self._patterns = [each.removeprefix(f"{bus.root}/") for each in filters if each.startswith(f"{bus.root}/")]

    async def run(self) -> None:
        async with self._bus.subscribe(*self._patterns) as messages:
            self.listening.set()
            async for message in messages:
                topic = f"{self._bus.root}/{message.topic}"
                self._taking.take(DeviceMessage(topic, message.body, retained=message.retained))
                del message  # free its memory while the next one is awaited
                await self._may_go_on.wait()

    def acknowledge(self, ids: Sequence[int]) -> bool:
        """Do nothing: this bus awaits no acknowledgement."""
        return True

    def pause(self) -> None:
        self._may_go_on.clear()

    def resume(self) -> None:
        self._may_go_on.set()
