"""Dataset, Model, Algorithm and Edge: what jobs name, and where they can run."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from heliograph.bus.contract.resources.base import Condition, Document, Resource, ShortText, WeightsRef
from heliograph.core.names import Label


class DatasetSpec(Document):
    """A file on an edge. ``url`` is a path below one of that agent's ``--data`` roots, with or without ``file://``.

    An edge also offers, without any such document, what its agent was started with (``--dataset NAME=FILE``).
    """

    node_name: Label | None = None
    url: Annotated[str, StringConstraints(max_length=4096)] | None = None
    format: Literal["npz", "csv"] | None = None


class DatasetIndex(Document):
    """What an edge found in a data set: never a sample, only their number and shape.

    Attributes:
        samples: rows of the csv, or length of the first axis of the npz's arrays.
        columns: column or array name to dtype and shape, ``float32[64]``.
        digest: SHA-256 of the file.
        error: why it could not be read; then the rest is empty.
    """

    name: Label
    samples: Annotated[int, Field(ge=0)] = 0
    columns: dict[str, str] = Field(default_factory=dict)
    digest: str = ""
    format: str = ""
    size: int = 0
    error: str = ""


class DatasetStatus(Document):
    edges: dict[str, DatasetIndex] = Field(default_factory=dict)
    conditions: list[Condition] = Field(default_factory=list)


class Dataset(Resource):
    """``kind: Dataset``."""

    plural: ClassVar[str] = "datasets"

    kind: Literal["Dataset"] = "Dataset"
    spec: DatasetSpec = Field(default_factory=DatasetSpec)
    status: DatasetStatus = Field(default_factory=DatasetStatus)


class ModelSpec(Document):
    """A model. Without ``weights`` the first participant's initial weights are where training starts."""

    weights: WeightsRef | None = None
    framework: ShortText | None = None
    description: ShortText = ""


class ModelVersion(Document):
    version: int
    weights: WeightsRef
    job: str = ""
    round: int = 0
    metrics: dict[str, float] = Field(default_factory=dict)
    time: str = ""


class ModelStatus(Document):
    versions: list[ModelVersion] = Field(default_factory=list)
    conditions: list[Condition] = Field(default_factory=list)


class Model(Resource):
    """``kind: Model``."""

    plural: ClassVar[str] = "models"

    kind: Literal["Model"] = "Model"
    spec: ModelSpec = Field(default_factory=ModelSpec)
    status: ModelStatus = Field(default_factory=ModelStatus)

    @property
    def newest(self) -> WeightsRef | None:
        """The weights of its newest version, without one those it was declared with."""
        return self.status.versions[-1].weights if self.status.versions else self.spec.weights


class AlgorithmSpec(Document):
    """An algorithm and the JSON schema of its parameters."""

    description: ShortText = ""
    parameters: dict[str, Any] = Field(default_factory=dict, max_length=64)


class AlgorithmStatus(Document):
    edges: list[str] = Field(default_factory=list)
    conditions: list[Condition] = Field(default_factory=list)


class Algorithm(Resource):
    """``kind: Algorithm``; its name is the algorithm's in lower case."""

    plural: ClassVar[str] = "algorithms"

    kind: Literal["Algorithm"] = "Algorithm"
    spec: AlgorithmSpec = Field(default_factory=AlgorithmSpec)
    status: AlgorithmStatus = Field(default_factory=AlgorithmStatus)


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
