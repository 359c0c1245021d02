"""Algorithm: a rule by which updates are aggregated, as described by the agents that offer it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from heliograph.bus.contract.resources.base import Condition, Document, Resource, ShortText
from heliograph.core.document_bounds import json_tree


class AlgorithmSpec(Document):
    """An algorithm and the JSON schema of its parameters."""

    description: ShortText = ""
    parameters: Annotated[dict[str, Any], Field(max_length=64), AfterValidator(json_tree)] = Field(default_factory=dict)


class AlgorithmStatus(Document):
    """The edges, or the cloud, whose workers can run an algorithm."""

    edges: list[str] = Field(default_factory=list)
    conditions: list[Condition] = Field(default_factory=list)


class Algorithm(Resource):
    """``kind: Algorithm``. Its name is the algorithm's name in lower case."""

    plural: ClassVar[str] = "algorithms"

    kind: Literal["Algorithm"] = "Algorithm"
    spec: AlgorithmSpec = Field(default_factory=AlgorithmSpec)
    status: AlgorithmStatus = Field(default_factory=AlgorithmStatus)
