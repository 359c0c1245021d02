"""The edges of a service, or of a job that runs on each of its edges."""

from typing import Annotated, ClassVar

from pydantic import Field

from heliograph.bus.contract.resources.base import PartOrAll
from heliograph.core.names import Label


class EdgeSelection(PartOrAll):
    """The edges of a service: ``{names: [edge-1, edge-2]}``, or ``{all: true}`` with every edge that joins later.

    A list of names and ``all``, the forms of release 0.1, are valid too.
    """

    part: ClassVar[str] = "names"
    part_type: ClassVar[type] = list
    forms: ClassVar[str] = "{names: [EDGE, ...]} or {all: true}"

    names: Annotated[list[Label], Field(min_length=1, max_length=10_000, fail_fast=True)] | None = None
