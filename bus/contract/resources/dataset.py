"""Dataset: samples on edges, the index that each edge made of them, and their versions."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from heliograph.bus.contract.resources.base import Binary, Condition, Document, Resource
from heliograph.bus.contract.resources.telemetry_source import RecordedRows, TelemetrySource
from heliograph.bus.contract.versions import added
from heliograph.core.names import Digest, Label

Format = Literal["npz", "csv", "npy", "parquet", "images", "txt", "coco", "webdataset"]
VERSIONS = 1000
"""Versions that a data set's status keeps; the oldest are forgotten first."""
NAMED_EDGES = 16
"""Edges that a version names."""
NAMED_FILES = 64
"""Grown files that an index names."""
FileName = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^/\x00-\x1f\x7f]+$")]


class DatasetContent(Document):
    """Uploaded samples, which edges fetch: one file, or the tar of a directory. Its digest tells it from other content.

    Attributes:
        file: name of the file, or of the directory; its ending tells the format, unless the data set's ``format`` does.
        digest: SHA-256 of the uploaded bytes, and the name of the blob in ``bucket``.
        size: number of the uploaded bytes.
        inline: the bytes themselves, up to 256 kB, instead of a blob.
        directory: whether the bytes are the tar of a directory, which edges unpack.
    """

    file: FileName
    digest: Digest
    size: Annotated[int, Field(ge=1, le=1 << 40)]
    bucket: Label | None = None
    inline: Binary | None = None
    directory: bool = False

    @field_validator("file")
    @classmethod
    def _a_name_and_no_place(cls, given: str) -> str:
        if given in (".", ".."):
            raise ValueError("expected the name of a file")
        return given

    @model_validator(mode="after")
    def _bytes_are_those_of_the_digest(self) -> "DatasetContent":
        from hashlib import sha256

        if self.inline is not None and (
            len(self.inline) != self.size or sha256(self.inline).hexdigest() != self.digest
        ):
            raise ValueError("expected inline bytes of that size and digest")
        return self


class DatasetSpec(Document):
    """A file or a directory on an edge, uploaded samples that edges fetch, or rows that edges record of their devices.

    An edge also offers the data sets that its agent was started with (``--dataset NAME=FILE``), without a document.

    Attributes:
        node_name: the edge with the file; without it every edge.
        url: path of the file or directory below one of the agent's ``--data`` roots, with or without ``file://``.
        format: format of the file, or of the files in the directory; without it content and suffix decide. A csv may
            have any delimiter; csv and npy may be packed, as gz or as a zip of one file; ``images`` is a directory with
            a directory of images for each class; ``txt`` has a path and a label a line.
        header: whether the first line of a csv names its columns; without it the cells decide.
        label: the column or array that holds the labels. Edges that allow it tell how often each label occurs.
        content: uploaded samples instead of ``url``; other content is another version.
        telemetry: rows that edges record of their devices' messages, instead of ``url``; they never leave the edge.
    """

    node_name: Label | None = None
    url: Annotated[str, StringConstraints(max_length=4096)] | None = None
    format: Format | None = None
    header: Literal["yes", "no"] | None = added("0.2")
    label: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = added("0.2")
    content: DatasetContent | None = added("0.2")
    telemetry: TelemetrySource | None = added("0.2")

    @model_validator(mode="after")
    def _one_source(self) -> "DatasetSpec":
        if self.url is not None and self.content is not None:
            raise ValueError("expected either url or content")
        if self.telemetry is not None and (self.url is not None or self.content is not None):
            raise ValueError("expected telemetry without url and content")
        if self.telemetry is not None and (self.format or self.header or self.label) is not None:
            raise ValueError("expected telemetry without format, header and label; its label is telemetry.label")
        return self


class GrownFile(Document):
    """A file of a version that holds all that it held in the parent, and more.

    Attributes:
        path: the file's path in the manifest.
        prefix: SHA-256 of the file in the parent; empty for a file that the parent does not have.
        first, end: the rows that the parent lacks, from ``first``, counted from 0, to the one before ``end``.
    """

    path: str
    prefix: str = ""
    first: int
    end: int


class DatasetIndex(Document):
    """An edge's index of a data set: number and shape of the samples, never a sample itself.

    Attributes:
        samples: number of rows or images, or length of the first axis of an npz's arrays; those of the training part
            where there are several.
        columns: the schema: column or array name to dtype and shape, such as ``float32[64]``; of a csv ``number`` or
            ``text``, as its first 10,000 rows tell.
        digest: SHA-256 of the file; of a directory that of the lines ``SHA-256, two spaces, path`` of its files.
        size: bytes of the file, or of all files of the directory.
        error: reason why the file could not be read; the other fields are then empty.
        read: bytes read so far of a large file that is still being read; ``error`` says so.
        version: SHA-256 of the manifest: a line ``path, size, SHA-256`` for each file, sorted by path.
        parent: the version that this edge had before.
        files: number of files in the manifest.
        grown: the files that hold more rows than in the parent, where nothing of the parent was changed or taken away;
            the first 64.
        new_samples: number of samples that the parent lacks, where nothing of it was changed or taken away; else all.
        labels: number of samples of each label; only where the edge's agent allows it.
        recording: counts of a data set that the edge records by itself.
    """

    name: Label
    samples: Annotated[int, Field(ge=0)] = 0
    columns: dict[str, str] = Field(default_factory=dict)
    digest: str = ""
    format: str = ""
    size: int = 0
    error: str = ""
    read: int = added("0.2", 0)
    version: str = added("0.2", "")
    parent: str = added("0.2", "")
    files: int = added("0.2", 0)
    grown: list[GrownFile] = added("0.2", [])
    new_samples: int = added("0.2", 0)
    labels: dict[str, int] = added("0.2", {})
    recording: RecordedRows | None = added("0.2")


class DatasetVersion(Document):
    """One version of a data set. It never changes: other bytes are another version.

    Attributes:
        version: SHA-256 of its manifest.
        parent: the version that the first edge with this one had before; empty where it had none.
        samples, size, files, format: as in the index.
        new_samples: number of samples that the parent lacks.
        columns_digest: SHA-256 of the schema; equal for two versions with the same columns.
        edges: the first edges that had it.
        time: time at which the coordinator first knew it.
    """

    version: str
    parent: str = ""
    samples: int = 0
    size: int = 0
    files: int = 0
    format: str = ""
    new_samples: int = 0
    columns_digest: str = ""
    edges: list[str] = Field(default_factory=list)
    time: str = ""


class TrainedVersion(Document):
    """The newest version of an edge's data set that a job which succeeded has trained on."""

    version: str
    samples: int = 0
    job: str = ""
    time: str = ""


class DatasetStatus(Document):
    """The index of the data set on each edge that has it, and the versions.

    Attributes:
        versions: the newest 1,000 versions, oldest first.
        trained: edge to the version that has been trained on. Samples wait until a training that used them succeeds.
        waiting: edge to the number of samples that wait; edges without any are left out.
    """

    edges: dict[str, DatasetIndex] = Field(default_factory=dict)
    versions: list[DatasetVersion] = added("0.2", [])
    trained: dict[str, TrainedVersion] = added("0.2", {})
    waiting: dict[str, int] = added("0.2", {})
    conditions: list[Condition] = Field(default_factory=list)


class Dataset(Resource):
    """``kind: Dataset``."""

    plural: ClassVar[str] = "datasets"

    kind: Literal["Dataset"] = "Dataset"
    spec: DatasetSpec = Field(default_factory=DatasetSpec)
    status: DatasetStatus = Field(default_factory=DatasetStatus)
