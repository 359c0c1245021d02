"""Algorithm: how updates are aggregated, as the agents that offer it describe it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from heliograph.bus.contract.resources.base import Condition, Document, Resource, ShortText


class AlgorithmSpec(Document):
    """An algorithm and the JSON schema of its parameters."""

    description: ShortText = ""
    parameters: dict[str, Any] = Field(default_factory=dict, max_length=64)


class AlgorithmStatus(Document):
    edges: list[str] = Field(default_factory=list)
    conditions: list[Condition] = Field(default_factory=list)


class Algorithm(Resource):
    """``kind: Algorithm``; its name is the algorithm's in lower case."""

    plural: ClassVar[str] = "algorithms"

    kind: Literal["Algorithm"] = "Algorithm"
    spec: AlgorithmSpec = Field(default_factory=AlgorithmSpec)
    status: AlgorithmStatus = Field(default_factory=AlgorithmStatus)
