"""Edge: a node with an agent, as seen in the broker's connections and the agent's reports."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from heliograph.bus.contract.resources.base import Condition, Document, Resource, ShortText
from heliograph.bus.contract.versions import added


class EdgeSpec(Document):
    """The labels of an edge, as its agent was started with."""

    labels: dict[ShortText, ShortText] = Field(default_factory=dict)


class EdgeStatus(Document):
    """The state of an edge. ``online`` comes from the broker, the other fields from the agent's report.

    Attributes:
        since: time of the last change of ``online``.
        version: version of the agent.
        observed_generation: generation of the desired document that the agent has reached.
        waiting_events: number of events in the journal that the cloud has not acknowledged yet.
        dropped_events: number of events dropped by the journal's quota and by full queues.
        refused_events: number of messages on the node's broker that the agent refused.
        anomalous_events: number of events by which a producer broke its numbering, or used another's incarnation.
        unplaced_events: number of messages of devices that no rule of the node's mapping takes.
        formats: formats of whole models that its workers serve without a script, each with its runtime's version.
        foreign: whether it is a participant that trains by itself, without an agent.
        invitation: name of the invitation by which it has enrolled; of a group it is the group's.
        node: name of its machine, where it enrolled by that (``heliograph enroll --node-name``).
        memory, gpus: bytes of memory, and number of GPUs, that the edge has for workers that ask for some; absent where
            its agent reports none.
        battery, charging: percent of its battery, and whether it is charging; absent where it has none.
    """

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
    anomalous_events: int = added("0.2", 0)
    unplaced_events: int = added("0.2", 0)
    formats: list[str] = added("0.2", [])
    foreign: bool = added("0.2", False)
    invitation: ShortText = added("0.2", "")
    node: ShortText = added("0.2", "")
    memory: int | None = added("0.2")
    gpus: int | None = added("0.2")
    battery: float | None = added("0.2")
    charging: bool = added("0.2", False)
    conditions: list[Condition] = Field(default_factory=list)


class Edge(Resource):
    """``kind: Edge``. The coordinator creates it when its agent first connects."""

    plural: ClassVar[str] = "edges"
    of_project: ClassVar[bool] = False
    everybody_reads: ClassVar[bool] = True

    kind: Literal["Edge"] = "Edge"
    spec: EdgeSpec = Field(default_factory=EdgeSpec)
    status: EdgeStatus = Field(default_factory=EdgeStatus)

    @property
    def selectable(self) -> Mapping[str, str]:
        return {**self.spec.labels, **self.metadata.labels}
