"""Which data a model was trained on, or measured with."""

from heliograph.bus.contract.resources.base import Document
from heliograph.core.names import Label


class DatasetUse(Document):
    """The version of a data set that an edge had when a model was trained on it, or measured with it.

    Attributes:
        version: digest of the version, as the edge's index tells; empty where its agent reports none.
    """

    name: Label
    edge: Label
    version: str = ""
    samples: int = 0
