"""How the updates of a federated task travel: as whole weights, or as less that means nearly the same."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from heliograph.bus.contract.resources.base import Document


class UpdateEncoding(Document):
    """What an update's file holds. The aggregation decodes it before any check; integers travel as they are.

    Attributes:
        delta: the changes from the base in place of the weights.
        dtype: the type of floating-point numbers on the wire; absent for the model's own types. ``int8`` has one scale
            for each output channel, and rounds without bias.
        top_k: the share of each tensor's changes that travel, those of the largest magnitude. What stays behind is
            added to the next round's changes (error feedback).
    """

    delta: bool = False
    dtype: Literal["float32", "float16", "bfloat16", "int8"] | None = None
    top_k: Annotated[float, Field(gt=0, le=0.5)] | None = None

    @model_validator(mode="after")
    def _top_k_is_of_changes(self) -> Self:
        if self.top_k is not None and not self.delta:
            raise ValueError("topK needs delta: true, since a part of the weights alone is no model")
        return self
