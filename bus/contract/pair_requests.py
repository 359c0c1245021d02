"""The answer to what a pair training job has made."""

from pydantic import Field

from heliograph.bus.contract.resources.base import Document
from heliograph.bus.contract.resources.pair_plan import PairFigures, SelectionFigures, Side
from heliograph.core.names import Label


class PairedModel(Document):
    """One model of the pair.

    Attributes:
        side: ``edge``: the shallow one; ``cloud``: the deep one.
        digest: of its weights; empty before it is trained.
        version: number of the registered version; absent before.
        samples: that it was trained on.
    """

    side: Side
    model: Label
    digest: str = ""
    version: int | None = None
    samples: int = 0
    metrics: dict[str, float] = Field(default_factory=dict)


class PairModels(Document):
    """What a job has made.

    Attributes:
        selected: the public samples that were selected; absent before, and without a public data set.
        figures: absent before they are measured.
        service: name of the service that the job has created; empty without one.
    """

    name: Label
    models: list[PairedModel] = Field(default_factory=list)
    selected: SelectionFigures | None = None
    figures: PairFigures | None = None
    service: str = ""
