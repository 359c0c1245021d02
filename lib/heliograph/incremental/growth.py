"""Load weights into a model that has fewer classes than they, or more: a served model gets what its training grew."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks import adapter_for
from heliograph.incremental.adapters import LearningAdapter, learning_adapter_for

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays


def load_grown(model: object, arrays: Arrays) -> None:
    """Write weights into a model. Where its head has another number of classes than they, it gets theirs.

    Raise Refused if they do not fit; the model then stays as it was.
    """
    adapter = adapter_for(model)
    try:
        adapter.set(arrays)
    except Refused:
        head = _head_of(model)
        if head is None or (given := head.count_in(arrays)) == (own := head.count()):
            raise
        kept, rng = adapter.get(), np.random.default_rng(0)  # every row is overwritten
        head.resize(given, rng)
        try:
            adapter.set(arrays)
        except BaseException:
            head.resize(own, rng)
            adapter.set(kept)
            raise


def _head_of(model: object) -> LearningAdapter | None:
    """Return the adapter of a framework's model; None where its head is not known."""
    with suppress(Refused):
        return learning_adapter_for(model)
    return None
