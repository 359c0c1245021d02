"""What the documents of a plan share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Label = Annotated[str, StringConstraints(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Seconds = Annotated[float, Field(ge=0, le=3600)]
Share = Annotated[float, Field(ge=0, le=1)]


class PlanDocument(BaseModel):
    """A part of a plan: it never changes, and has no field that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")
