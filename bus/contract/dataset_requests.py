"""Answers of the requests about a data set."""

from pydantic import Field

from heliograph.bus.contract.resources.base import Document
from heliograph.bus.contract.resources.dataset import DatasetVersion, TrainedVersion


class DatasetVersions(Document):
    """The versions of a data set.

    Attributes:
        name: the data set.
        versions: the newest 1,000, oldest first.
        present: edge to the version that it has now; edges that cannot read their files are left out.
        trained: edge to the version of the newest training that succeeded.
        waiting: edge to the number of samples that wait for a training; edges without any are left out.
    """

    name: str
    versions: list[DatasetVersion] = Field(default_factory=list)
    present: dict[str, str] = Field(default_factory=dict)
    trained: dict[str, TrainedVersion] = Field(default_factory=dict)
    waiting: dict[str, int] = Field(default_factory=dict)
