"""Dataset: a file on an edge, and what each edge found in it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from heliograph.bus.contract.resources.base import Condition, Document, Resource
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
