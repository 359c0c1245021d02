"""All of the node's devices: the connection to their broker, and what becomes of what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from heliograph.bus.connection_url import MQTT
from heliograph.bus.transport import Bus
from heliograph.core.tasks import Background
from heliograph.core.world import World
from heliograph.edge_agent.devices.intake import DeviceIntake
from heliograph.edge_agent.devices.mapping import DeviceMapping
from heliograph.edge_agent.devices.reading import DeviceReading
from heliograph.edge_agent.devices.subscription import DeviceSubscription
from heliograph.edge_agent.devices.unplaced import UnplacedTopics
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.producers import DEVICE, ProducerWatch, key_of

if TYPE_CHECKING:
    from heliograph.edge_agent.devices.own_events import OwnEvent, OwnEvents
    from heliograph.edge_agent.devices.session import DeviceSession


class NodeDevices:
    """The devices of a node.

    Args:
        bus: the connection to their broker on which they are answered.
        source: of the acknowledgements.
        watch: takes note of what a producer must not do with its numbers.
        refused: called with (topic, error) for each message that is refused.
        say: called with a line.
        mapping: what topics stand for.
        counted: called with each message that no rule of the mapping takes.

    Attributes:
        unplaced: what no rule of the mapping takes.
    """

    def __init__(
        self, bus: Bus, edge: str, source: str, journal: Journal, watch: ProducerWatch, world: World,
        background: Background, refused: Callable[[str, Exception], None], say: Callable[[str], None],
        mapping: DeviceMapping, counted: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.unplaced = UnplacedTopics(mapping, say, counted)
        self._own: OwnEvents | None = None
        reading = DeviceReading(
            bus.root, edge, mapping, world, self._take_own, self.unplaced.add,
            lambda device: watch.note("unreadable", key_of(DEVICE, device), "", 0),
        )  # fmt: skip
        self.intake = DeviceIntake(reading, journal, world, background, refused)
        self._parts = bus, source, journal, watch, world, background
        self.source: DeviceSession | DeviceSubscription
        if bus.url.partition(":")[0] in MQTT:
            from heliograph.edge_agent.devices.kept_filters import KeptFilters
            from heliograph.edge_agent.devices.session import DeviceSession

            self.source = DeviceSession(bus.url, edge, KeptFilters(journal, mapping.filters), world, self.intake,
                                        refused, say)  # fmt: skip
        else:
            self.source = DeviceSubscription(bus, mapping.filters, self.intake)
        self.intake.source = self.source

    async def run(self) -> None:
        """Take what devices say until cancelled."""
        await self.source.run()

    def _take_own(self, event: OwnEvent) -> NewEvent | None:
        """Take an event that a device has numbered. Few devices do: what knows their numbers comes with the first."""
        if self._own is None:
            from heliograph.edge_agent.devices.own_events import OwnEvents

            self._own = OwnEvents(*self._parts, self.intake.keep)
        return self._own.take(event)
