"""The coordinator's part of the kind Edge: an edge is made by its report, and deleted by a request."""

from __future__ import annotations

from heliograph.bus.contract.resources import Edge, Resource
from heliograph.coordinator.feature import Feature
from heliograph.core.errors import Refused


class EdgeFeature(Feature[Edge]):
    """Refuses to delete an edge that is online: it would be made anew at once."""

    def may_delete(self, other: Resource, topic: str) -> None:
        if isinstance(other, Edge) and self.context.view().online(other.name):
            raise Refused("online", topic=topic, field="name", expected="an edge that is offline", got=other.name,
                          hint="Stop its agent first; an agent that returns makes its edge anew.")  # fmt: skip
