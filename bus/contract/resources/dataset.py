"""Dataset: a file on edges, and the index that each edge made of it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from heliograph.bus.contract.resources.base import Condition, Document, Resource
from heliograph.core.names import Label


class DatasetSpec(Document):
    """A file on an edge.

    An edge also offers the data sets that its agent was started with (``--dataset NAME=FILE``), without a document.

    Attributes:
        node_name: the edge with the file; without it every edge.
        url: path of the file below one of the agent's ``--data`` roots, with or without ``file://``.
        format: format of the file; without it the file's suffix decides.
    """

    node_name: Label | None = None
    url: Annotated[str, StringConstraints(max_length=4096)] | None = None
    format: Literal["npz", "csv"] | None = None


class DatasetIndex(Document):
    """An edge's index of a data set: number and shape of the samples, never a sample itself.

    Attributes:
        samples: number of rows of a csv, or length of the first axis of an npz's arrays.
        columns: column or array name to dtype and shape, such as ``float32[64]``.
        digest: SHA-256 of the file.
        size: bytes of the file.
        error: reason why the file could not be read; the other fields are then empty.
    """

    name: Label
    samples: Annotated[int, Field(ge=0)] = 0
    columns: dict[str, str] = Field(default_factory=dict)
    digest: str = ""
    format: str = ""
    size: int = 0
    error: str = ""


class DatasetStatus(Document):
    """The index of the data set on each edge that has it."""

    edges: dict[str, DatasetIndex] = Field(default_factory=dict)
    conditions: list[Condition] = Field(default_factory=list)


class Dataset(Resource):
    """``kind: Dataset``."""

    plural: ClassVar[str] = "datasets"

    kind: Literal["Dataset"] = "Dataset"
    spec: DatasetSpec = Field(default_factory=DatasetSpec)
    status: DatasetStatus = Field(default_factory=DatasetStatus)
