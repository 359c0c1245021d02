"""Base class and field types of all payloads."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from heliograph.core.names import Label

Text = Annotated[str, StringConstraints(max_length=4096)]
EdgeName = Label
MAX_COUNT = (1 << 53) - 1
"""The largest count: also programs that read numbers as floats see it exactly, and a sum of a thousand has 64 bits."""
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Bucket = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}$")]
Metrics = Annotated[dict[Annotated[str, StringConstraints(max_length=128)], float], Field(max_length=64)]


class Payload(BaseModel):
    """Base of all payloads. Validation ignores unknown fields, because a sender may be of another version, and refuses
    NaN and infinity."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, defer_build=True)

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Read a payload that was stored as JSON; ignore unknown fields at every depth, as in a message.

        Raises pydantic's ValidationError.
        """
        return cls.model_validate_json(text, extra="ignore")


class Anything(BaseModel):
    """A mapping whose fields the application defines."""

    model_config = ConfigDict(extra="allow")
