"""Dataset: a file or a directory on edges, and the index that each edge made of it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from heliograph.bus.contract.resources.base import Condition, Document, Resource
from heliograph.bus.contract.versions import added
from heliograph.core.names import Label

Format = Literal["npz", "csv", "npy", "parquet", "images"]
FIRST_FORMATS = frozenset((None, "npz", "csv"))
"""The formats that agents of 0.1 know; they would refuse a whole desired document for another."""


class DatasetSpec(Document):
    """A file or a directory on an edge.

    An edge also offers the data sets that its agent was started with (``--dataset NAME=FILE``), without a document.

    Attributes:
        node_name: the edge with the file; without it every edge.
        url: path of the file or directory below one of the agent's ``--data`` roots, with or without ``file://``.
        format: format of the file, or of the files in the directory; without it content and suffix decide. A csv may
            have any delimiter; csv and npy may be packed, as gz or as a zip of one file; ``images`` is a directory with
            a directory of images for each class.
        header: whether the first line of a csv names its columns; without it the cells decide.
    """

    node_name: Label | None = None
    url: Annotated[str, StringConstraints(max_length=4096)] | None = None
    format: Format | None = None
    header: Literal["yes", "no"] | None = added("0.2")


class DatasetIndex(Document):
    """An edge's index of a data set: number and shape of the samples, never a sample itself.

    Attributes:
        samples: number of rows or images, or length of the first axis of an npz's arrays; those of the training part
            where there are several.
        columns: column or array name to dtype and shape, such as ``float32[64]``; of a csv ``number`` or ``text``, as
            its first 10,000 rows tell.
        digest: SHA-256 of the file; of a directory that of the lines ``SHA-256, two spaces, path`` of its files.
        size: bytes of the file, or of all files of the directory.
        error: reason why the file could not be read; the other fields are then empty.
        read: bytes read so far of a large file that is still being read; ``error`` says so.
    """

    name: Label
    samples: Annotated[int, Field(ge=0)] = 0
    columns: dict[str, str] = Field(default_factory=dict)
    digest: str = ""
    format: str = ""
    size: int = 0
    error: str = ""
    read: int = added("0.2", 0)


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
