"""The answer to what an incremental learning job has made."""

from pydantic import Field

from heliograph.bus.contract.resources.base import Document
from heliograph.bus.contract.resources.learning_progress import Decision
from heliograph.core.names import Digest, Label


class LearnedVersion(Document):
    """What a round has made of one model.

    Attributes:
        version: number of the registered version; absent where the candidate was not registered.
        edge: the edge that made it, with the location ``edge``: of each the last round.
        accuracy: on the held-out samples of its round; absent where it was not measured.
    """

    round: int
    model: Label
    decision: Decision
    version: int | None = None
    digest: str = ""
    accuracy: float | None = None
    reason: str = ""
    edge: str = ""


class LearnedModels(Document):
    """The models of a job.

    Attributes:
        champions: model to the version that serves where no alias says otherwise.
        versions: what the last rounds have made, oldest first.
        edges: with the location ``edge``, edge to model to the digest of the version of its own that it serves.
    """

    name: Label
    champions: dict[Label, int] = Field(default_factory=dict)
    versions: list[LearnedVersion] = Field(default_factory=list)
    edges: dict[Label, dict[Label, Digest]] = Field(default_factory=dict)
