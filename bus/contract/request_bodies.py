"""Bodies of requests about one resource. A field that no model declares is refused: a wrong word must not be silent."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from heliograph.bus.contract.resources import Resource
from heliograph.core.errors import Refused
from heliograph.core.names import Label

ResourceVersion = Annotated[str, StringConstraints(pattern=r"^[0-9]{0,20}$")]


class RequestBody(BaseModel):
    """Base of all bodies. Field names are snake_case on the wire; validation refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)


class Named(RequestBody):
    """A request about one resource."""

    name: Label
    """Name of the resource."""


class Change(Named):
    """A request that changes one resource.

    Attributes:
        resource_version: `metadata.resourceVersion` of the document that the caller has seen. Where the resource was
            changed since, the request is refused. Empty where the last request wins.
        dry_run: whether to check and answer the request without any effect.
    """

    resource_version: ResourceVersion = ""
    dry_run: bool = False

    def check(self, resource: Resource) -> None:
        """Raise Refused where the resource was changed since the version that the caller has seen."""
        found = resource.metadata.resource_version
        if self.resource_version not in ("", found):
            raise Refused("conflict", field="resource_version", expected=f"{found or 'none'}, the stored version",
                          got=self.resource_version,
                          hint="Get the resource, and decide again on what it says now.")  # fmt: skip
