"""The topics of devices that publish as this node asks: ``<root>/event/telemetry/<edge>/<device>``."""

from __future__ import annotations

from typing import NamedTuple

from heliograph.bus.contract.topics import TELEMETRY


class Placed(NamedTuple):
    """A device, and its event."""

    device: str
    event: str = "telemetry"
    content_type: str | None = None


class OwnTelemetry:
    """The mapping of a node that names no other topics."""

    def __init__(self, root: str, edge: str) -> None:
        self._root = f"{root}/"
        self._edge = edge
        self.filters = (f"{root}/{TELEMETRY.filter(edge=edge)}",)

    def place(self, topic: str) -> Placed | None:
        found = TELEMETRY.match(topic.removeprefix(self._root)) if topic.startswith(self._root) else None
        return Placed(found["device"]) if found is not None and found["edge"] == self._edge else None
