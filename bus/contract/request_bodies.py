"""Bodies of requests. A field that no model declares is refused: a wrong word must not be silent."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from heliograph.bus.contract.resources import Resource
from heliograph.core.errors import Refused
from heliograph.core.names import Label
from heliograph.core.selector import MAX_LENGTH

MOST_LISTED = 10_000
"""Resources of one answer, at most."""
Limit = Annotated[int, Field(ge=1, le=MOST_LISTED, strict=True)]
SelectorText = Annotated[str, StringConstraints(max_length=MAX_LENGTH)]
ResourceVersion = Annotated[str, StringConstraints(pattern=r"^[0-9]{0,20}$")]


class RequestBody(BaseModel):
    """Base of all bodies. Field names are snake_case on the wire; validation refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)

    changes: ClassVar[bool] = False
    """Whether such a request changes anything; those that do are recorded."""
    about: ClassVar[str] = "name"
    """Field with the name that is recorded."""


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

    changes = True

    resource_version: ResourceVersion = ""
    dry_run: bool = False

    def check(self, resource: Resource) -> None:
        """Raise Refused where the resource was changed since the version that the caller has seen."""
        found = resource.metadata.resource_version
        if self.resource_version not in ("", found):
            raise Refused("conflict", field="resource_version", expected=f"{found or 'none'}, the stored version",
                          got=self.resource_version,
                          hint="Get the resource, and decide again on what it says now.")  # fmt: skip


class ListQuery(RequestBody):
    """A request for the resources of one kind, sorted by name. The answer has the `version` of the kind beside its
    result, for `watch`; and `continue`, where more follow.

    Attributes:
        selector: labels that the resources have, in Kubernetes' syntax: `site=berlin,tier in (a, b),!old`. Of an edge
            they are the labels that its agent was started with.
        limit: number of resources in the answer, at most. An answer with a limit may have fewer, so that it is not
            larger than a reply may be; one without has all of them, or is refused.
        after: the `continue` of the answer before.
    """

    selector: SelectorText = ""
    limit: Limit | None = None
    after: Annotated[Label | None, Field(alias="continue")] = None


class WatchQuery(RequestBody):
    """A request for what has changed. The answer comes at once. Its result has the newest document of each resource
    that has changed, in the order of their changes; `gone` the names of those that were deleted or are not selected any
    more; `version` says how far that goes, and `more` whether the next request has further ones. Changes from now on
    are announced on the topics of the kind's status.

    Attributes:
        since: the `version` of an earlier answer of `list` or `watch`. One of a coordinator that leads no longer is
            refused with `expired`: list again.
        selector: as in `list`.
        limit: number of changes in the answer, at most.
    """

    since: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,16}-[0-9]{1,16}$")]
    selector: SelectorText = ""
    limit: Limit = 500
