"""The interface of a model that a runtime has opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from heliograph.bus.contract.model_signature import ModelSignature

Array = np.ndarray[Any, Any]


class OpenedModel(ABC):
    """A model whose inputs and outputs have names; the first axis of each is the batch.

    Attributes:
        quantised: the inputs that take floats, and whole numbers of the type given here as quantised already.
    """

    signature: ModelSignature
    quantised: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model on a batch, each input by its name. Return each output by its name. Errors propagate."""
