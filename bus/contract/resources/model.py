"""Model: weights that jobs train and services run, version by version."""

import hashlib
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from heliograph.bus.contract.resources.base import Condition, Document, Resource, ShortText, WeightsRef
from heliograph.bus.contract.resources.dataset_use import DatasetUse
from heliograph.bus.contract.resources.rollout import Rollout
from heliograph.bus.contract.versions import added
from heliograph.core.errors import Refused
from heliograph.core.names import Digest, Label
from heliograph.core.signing import Envelope

CHAMPION = "champion"
"""The alias that decides what is deployed; without it the newest version is."""


BEST = "best"
"""The alias of the best model of the job that ended last, of those that have one."""
MAX_TENSORS = 32
"""Inputs or outputs of a model, at most."""


class TensorSchema(Document):
    """An input or an output of a model.

    Attributes:
        dtype: element type, such as ``float32``.
        shape: length of each axis; -1 for any, such as the batch's.
    """

    name: ShortText = ""
    dtype: ShortText
    shape: Annotated[list[Annotated[int, Field(ge=-1)]], Field(max_length=16)] = Field(default_factory=list)


class ModelLabels(Document):
    """The classes that a model tells apart, in the order of its scores, and the version of the label schema."""

    version: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 1
    classes: Annotated[list[ShortText], Field(min_length=1, max_length=1024)]


class ModelSpec(Document):
    """A model. Without ``weights``, training starts from the first participant's initial weights.

    Attributes:
        inputs, outputs: what the model takes and gives; each later version states them.
        label_schema: the classes that the model tells apart.
        licence: SPDX expression, such as ``Apache-2.0``.
        keep_versions: newest trained versions that stay in any case; without it as many as the coordinator keeps.
    """

    weights: WeightsRef | None = None
    framework: ShortText | None = None
    description: ShortText = ""
    inputs: Annotated[list[TensorSchema], Field(max_length=MAX_TENSORS)] = added("0.2", [])
    outputs: Annotated[list[TensorSchema], Field(max_length=MAX_TENSORS)] = added("0.2", [])
    label_schema: ModelLabels | None = added("0.2")
    licence: ShortText = added("0.2", "")
    keep_versions: Annotated[int, Field(ge=1, le=10_000, strict=True)] | None = added("0.2")

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
    """One version of a model's weights. Its digest is that of the weights.

    Attributes:
        version: number of the version, from 1; 0 for the declared weights.
        job: uid of the job that trained the weights; empty for a registered file.
        job_name: name of that job.
        round: the round that closed with the weights.
        metrics: metrics of the round.
        time: time at which the job ended.
        parent: digest of the weights that the job started from, or that a file was made from; empty where of none.
        teacher: digest of the weights that it was distilled from; empty where it was not.
        datasets: the data that it was trained on: the first edges by name.
        datasets_digest: SHA-256 of the lines ``edge, name, version`` of all edges, sorted, with two spaces between.
        dataset_count: number of these lines.
        code: digest of the training code to the number of edges that ran it.
        evaluation_set: the data that ``metrics`` were measured with; absent where they are those of training.
        inputs, outputs, licence, description: those of the model when the version was made; inputs and outputs of a
            whole model are those of its file.
        label_schema: digest of one of the model's label schemas.
        signature: signed statement about the weights and this record, as OpenSSF model signing has it.
    """

    version: int
    weights: WeightsRef
    job: str = ""
    job_name: str = added("0.2", "")
    round: int = 0
    metrics: dict[str, float] = Field(default_factory=dict)
    time: str = ""
    parent: str = added("0.2", "")
    teacher: str = added("0.2", "")
    datasets: list[DatasetUse] = added("0.2", [])
    datasets_digest: str = added("0.2", "")
    dataset_count: int = added("0.2", 0)
    code: dict[str, int] = added("0.2", {})
    evaluation_set: DatasetUse | None = added("0.2")
    inputs: list[TensorSchema] = added("0.2", [])
    outputs: list[TensorSchema] = added("0.2", [])
    label_schema: str = added("0.2", "")
    licence: str = added("0.2", "")
    description: str = added("0.2", "")
    signature: Envelope | None = added("0.2")


class AliasMove(Document):
    """One move of an alias.

    Attributes:
        version: number of the version that it names from then on.
        was: number of the one before, or of the newest where there was no champion; absent where another alias is new.
        by: the caller that asked for it.
        rollback: whether the move went back to an earlier version.
    """

    alias: Label
    version: int
    was: int | None = None
    time: str = ""
    by: str = ""
    rollback: bool = False


class ModelStatus(Document):
    """The trained versions of a model.

    Attributes:
        versions: what jobs made that succeeded, and files that were registered, oldest first. The one that the alias
            ``champion`` names is deployed; without that alias the newest.
        unfinished: the last global models of the newest jobs that failed or were stopped, oldest first, numbered with
            the versions. They are kept for people, who may download them; nothing deploys them or starts from them.
        aliases: alias to the number of the version that it names now. ``best`` may name an unfinished one.
        bindings: alias to the edges on which the version that it names is deployed, in place of the champion.
        moves: the last moves of aliases, oldest first.
        label_schemas: the label schemas that versions name, by digest.
        declared_signature: the signature of the declared weights, version 0.
        rollout: a version that answers a share of the requests beside the deployed one.
    """

    versions: list[ModelVersion] = Field(default_factory=list)
    unfinished: list[ModelVersion] = added("0.2", [])
    aliases: dict[Label, int] = added("0.2", {})
    bindings: dict[Label, list[Label]] = added("0.2", {})
    moves: list[AliasMove] = added("0.2", [])
    label_schemas: dict[Digest, ModelLabels] = added("0.2", {})
    declared_signature: Envelope | None = added("0.2")
    rollout: Rollout | None = added("0.2")
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


def numbered(model: Model, number: int) -> ModelVersion | None:
    """Return the version of that number; None where the model has none."""
    if number == 0:
        return declared(model)
    return next((each for each in reversed(model.status.versions) if each.version == number), None)


def candidate_on(model: Model, edge: str) -> tuple[ModelVersion, float] | None:
    """Return the version that answers beside the deployed one on an edge, with its share of the edge's requests; None
    where none does, and on an edge that is bound to an alias."""
    rollout = model.status.rollout
    if rollout is None or rollout.step != "canary" or any(edge in bound for bound in model.status.bindings.values()):
        return None
    version = numbered(model, rollout.version)
    if version is None:
        return None
    if rollout.by == "requests":
        return version, rollout.share
    return (version, 1.0) if share_of(edge, rollout.salt) < rollout.share else None


def share_of(name: str, salt: str) -> float:
    """Return a number from 0 to 1 that depends on the name and the salt alone."""
    digest = hashlib.sha256(f"{salt}\0{name}".encode()).digest()
    return float(int.from_bytes(digest[:8], "big") / 2**64)


def resolve(model: Model, edge: str = "") -> ModelVersion | None:
    """Return the version of a model that is deployed on an edge; without an edge, the one that jobs start from."""
    return resolve_all(model, [edge])[edge]


def resolve_all(model: Model, edges: Iterable[str]) -> dict[str, ModelVersion | None]:
    """Return the version of a model that is deployed on each of these edges; there may be ten thousand.

    On an edge that is bound to an alias it is that alias's version. Everywhere else it is the champion, or the newest
    version while no alias has that name. A model that no job has trained yet has its declared weights as version 0;
    without any, the result is None.
    """
    status = model.status
    deployed = aliased(model, CHAMPION) or (status.versions[-1] if status.versions else declared(model))
    found: dict[str, ModelVersion | None] = dict.fromkeys(edges, deployed)
    for alias, bound in status.bindings.items():
        if (version := aliased(model, alias)) is not None:
            found.update((edge, version) for edge in bound if edge in found)
    return found


def aliased(model: Model, alias: str) -> ModelVersion | None:
    """Return the version that an alias names; None where there is no such alias."""
    number = model.status.aliases.get(alias)
    return numbered(model, number) if number is not None else None


def named_by(model: Model, alias: str) -> ModelVersion | None:
    """Return what an alias names, to download it: a version, or what a job left that failed or was stopped."""
    number = model.status.aliases.get(alias)
    unfinished = (each for each in model.status.unfinished if each.version == number)
    return aliased(model, alias) or next(unfinished, None)


def declared(model: Model) -> ModelVersion | None:
    """Return the weights that a model was declared with as version 0; None where it was declared without."""
    spec = model.spec
    if spec.weights is None:
        return None
    return ModelVersion(
        version=0,
        weights=spec.weights,
        inputs=spec.inputs,
        outputs=spec.outputs,
        licence=spec.licence,
        description=spec.description,
        signature=model.status.declared_signature,
    )
