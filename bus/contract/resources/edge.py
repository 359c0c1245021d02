"""Edge: a node with an agent, as the broker and its reports show it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from heliograph.bus.contract.resources.base import Condition, Document, Resource, ShortText


class EdgeSpec(Document):
    labels: dict[ShortText, ShortText] = Field(default_factory=dict)


class EdgeStatus(Document):
    """What the coordinator knows of an edge; ``online`` comes from the broker, the rest from the agent's report."""

    online: bool = False
    since: str = ""
    version: str = ""
    observed_generation: str = ""
    workers: list[str] = Field(default_factory=list)
    datasets: list[str] = Field(default_factory=list)
    frameworks: list[str] = Field(default_factory=list)
    waiting_events: int = 0
    dropped_events: int = 0
    refused_events: int = 0
    conditions: list[Condition] = Field(default_factory=list)


class Edge(Resource):
    """``kind: Edge``; made by the coordinator when an agent first appears."""

    plural: ClassVar[str] = "edges"

    kind: Literal["Edge"] = "Edge"
    spec: EdgeSpec = Field(default_factory=EdgeSpec)
    status: EdgeStatus = Field(default_factory=EdgeStatus)
