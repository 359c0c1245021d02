"""Model: weights that jobs train and services run, version by version."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from heliograph.bus.contract.resources.base import Condition, Document, Resource, ShortText, WeightsRef
from heliograph.bus.contract.versions import added
from heliograph.core.errors import Refused


class ModelSpec(Document):
    """A model. Without ``weights``, training starts from the first participant's initial weights."""

    weights: WeightsRef | None = None
    framework: ShortText | None = None
    description: ShortText = ""

    @field_validator("weights")
    @classmethod
    def _inline_weights_are_a_safetensors_file(cls, given: WeightsRef | None) -> WeightsRef | None:
        """Check declared weights before anything stores them: nodes lay them on their disks."""
        from heliograph.bus.contract.weights_header import check_inline  # it imports the resources' base

        if given is not None:
            try:
                check_inline(given)
            except Refused as error:
                raise ValueError(str(error)) from None
        return given


class ModelVersion(Document):
    """One version of a model's weights.

    Attributes:
        version: number of the version, from 1; 0 for the declared weights.
        job: uid of the job that trained the weights.
        round: the round that closed with the weights.
        metrics: metrics of the round.
        time: time at which the job ended.
    """

    version: int
    weights: WeightsRef
    job: str = ""
    round: int = 0
    metrics: dict[str, float] = Field(default_factory=dict)
    time: str = ""


class ModelStatus(Document):
    """The trained versions of a model.

    Attributes:
        versions: what jobs made that succeeded, oldest first; the newest is deployed.
        unfinished: the last global models of the newest jobs that failed or were stopped, oldest first, numbered with
            the versions. They are kept for people, who may download them; nothing deploys them or starts from them.
    """

    versions: list[ModelVersion] = Field(default_factory=list)
    unfinished: list[ModelVersion] = added("0.2", [])
    conditions: list[Condition] = Field(default_factory=list)


class Model(Resource):
    """``kind: Model``."""

    plural: ClassVar[str] = "models"

    kind: Literal["Model"] = "Model"
    spec: ModelSpec = Field(default_factory=ModelSpec)
    status: ModelStatus = Field(default_factory=ModelStatus)


def latest(model: Model) -> ModelVersion | None:
    """Return the version to download where nobody names one: the deployed version, else the newest unfinished model."""
    found = resolve(model)
    if (found is None or not found.version) and model.status.unfinished:
        return model.status.unfinished[-1]
    return found


def resolve(model: Model, edge: str = "") -> ModelVersion | None:
    """Return the version of a model that is deployed on an edge; without an edge, the one that jobs start from."""
    return resolve_all(model, [edge])[edge]


def resolve_all(model: Model, edges: Iterable[str]) -> dict[str, ModelVersion | None]:
    """Return the version of a model that is deployed on each of these edges; there may be ten thousand.

    The newest version is deployed everywhere. A model that no job has trained yet has its declared weights as version
    0; without any, the result is None.
    """
    newest = model.status.versions[-1] if model.status.versions else None
    if newest is None and model.spec.weights is not None:
        newest = ModelVersion(version=0, weights=model.spec.weights)
    return dict.fromkeys(edges, newest)
