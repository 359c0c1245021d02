"""FedAvg: the mean of the updates, weighted by their samples.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
https://arxiv.org/abs/1602.05629
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np

    Block = np.ndarray[Any, Any]


class FedAvgParameters(BaseModel):
    """What a job may set. ``batch_size``, ``learning_rate`` and ``local_epochs`` (the paper's B, eta and E) are handed
    to the participants' scripts; ``norm_bound`` is the largest L2 distance of an update from its base."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    batch_size: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    local_epochs: Annotated[int, Field(ge=1)] = 1
    min_node_number: Annotated[int, Field(ge=1)] = 1
    rounds_between_validations: Annotated[int, Field(ge=1)] = 1
    norm_bound: Annotated[float, Field(gt=0)] | None = None


def fedavg(blocks: Sequence[Block], weights: Sequence[float]) -> Block:
    """The weighted mean of the same piece of each update, in their order.

    Args:
        blocks: of one shape and one float dtype; overwritten.
        weights: summing to 1.
    """
    import numpy as np

    total = blocks[0]
    total *= total.dtype.type(weights[0])
    for block, weight in zip(blocks[1:], weights[1:], strict=True):
        np.multiply(block, block.dtype.type(weight), out=block)
        total += block
    return total
