"""Bodies and answers of the requests about models: versions, aliases, evaluations, deployments, exports."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from heliograph.bus.contract.request_bodies import Change, Named, RequestBody
from heliograph.bus.contract.resources.base import Document, ShortText, WeightsRef
from heliograph.bus.contract.resources.canary import Canary
from heliograph.bus.contract.resources.dataset_use import DatasetUse
from heliograph.bus.contract.resources.model import (
    CHAMPION,
    MAX_TENSORS,
    ModelLabels,
    ModelVersion,
    TensorSchema,
)
from heliograph.core.names import Label

MOST_BOUND = 1024
"""Edges that one alias is bound to, at most: more of them are a champion."""
VERSIONS_LISTED = 100
"""Versions in one answer, at most."""
Number = Annotated[int, Field(ge=0, le=1 << 53, strict=True)]
FiniteNumber = Annotated[float, Field(allow_inf_nan=False)]


def check_alias(name: str) -> str:
    """Return a name that an alias may have. Raise ValueError where it reads like a version."""
    if name.isdigit() or name == "latest":
        raise ValueError("expected a name that is no number and not 'latest', which say a version already")
    return name


AliasName = Annotated[Label, AfterValidator(check_alias)]


class VersionQuery(Named):
    """A request about one version of a model.

    Attributes:
        version: number of the version.
        alias: the alias that names it, in place of a number. Without either it is the deployed version.
    """

    version: Number | None = None
    alias: Label | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.version is not None and self.alias is not None:
            raise ValueError("expected either version or alias")
        return self


class VersionsQuery(Named):
    """A request for the versions of a model, newest first.

    Attributes:
        before: the answer begins with the version before this one; without it with the newest.
        limit: versions in the answer, at most.
    """

    before: Number | None = None
    limit: Annotated[int, Field(ge=1, le=VERSIONS_LISTED, strict=True)] = VERSIONS_LISTED


class AliasChange(Change):
    """A request that moves an alias, binds edges to it, or removes it.

    Attributes:
        alias: the alias; it is made where the model has none of that name. `champion` decides what is deployed.
        version: number of the version that it names from now on.
        was: number of the version that the caller saw it name. Where it has been moved since, the request is refused.
        edges: the edges on which this alias decides what is deployed, in place of `champion`: all of them, and no
            others. Each edge is bound to one alias at most. An empty list frees them.
        remove: true removes the alias and frees its edges.
    """

    alias: AliasName
    version: Number | None = None
    was: Number | None = None
    edges: Annotated[list[Label], Field(max_length=MOST_BOUND)] | None = None
    remove: bool = False

    @model_validator(mode="after")
    def _says_what_to_do(self) -> Self:
        moves = self.version is not None or self.edges is not None
        if moves == self.remove:
            raise ValueError("expected version or edges, or else remove")
        if self.edges and self.alias == CHAMPION:
            raise ValueError(f"expected another alias with edges: {CHAMPION} is deployed on all that are bound to none")
        return self


class Rollback(Change):
    """A request that moves an alias back.

    Attributes:
        alias: the alias. Where a model has no `champion`, the newest version is deployed, and a rollback makes the one
            before it the champion: versions that are trained later are then not deployed by themselves.
        to: number of the version to go back to; without it the one that the alias named before its last move.
    """

    alias: AliasName = CHAMPION
    to: Number | None = None


class VersionRegistration(Change):
    """A request that adds a file as the next version of a model. The version is deployed as any new one: at once where
    the model has no `champion`.

    Attributes:
        weights: the file, which lies in the models' bucket or travels inline. A file that is a version already adds
            none.
        inputs, outputs, label_schema: what the file says of itself; by default what the model's document says.
        parent: the version that it was made from.
        metrics: what it scores, as its registrar says.
        deploy: false keeps what is deployed: the deployed version becomes the `champion`.
    """

    weights: WeightsRef
    inputs: Annotated[list[TensorSchema], Field(max_length=MAX_TENSORS)] = Field(default_factory=list)
    outputs: Annotated[list[TensorSchema], Field(max_length=MAX_TENSORS)] = Field(default_factory=list)
    label_schema: ModelLabels | None = None
    parent: Number | None = None
    metrics: Annotated[dict[ShortText, FiniteNumber], Field(max_length=64)] = Field(default_factory=dict)
    deploy: bool = True


class RolloutStart(Change):
    """A request that lets a version answer a share of the requests beside the deployed one. Its errors, latency and
    agreement decide whether it becomes the `champion` or is taken back; the condition `RolledOut` tells.

    Attributes:
        version: number of the version.
        canary: the share and the bounds.
    """

    version: Number
    canary: Canary = Field(default_factory=Canary)


class ModelVersionList(Document):
    """The versions of a model.

    Attributes:
        aliases: alias to the number of its version.
        bindings: alias to the edges that are bound to it.
        deployed: number of the version that is deployed on edges that are bound to no alias.
        versions: newest first; what jobs left that failed or were stopped is not among them.
        before: where there are more, ask for those before this number.
    """

    name: Label
    aliases: dict[str, int] = Field(default_factory=dict)
    bindings: dict[str, list[str]] = Field(default_factory=dict)
    deployed: int | None = None
    versions: list[ModelVersion] = Field(default_factory=list)
    before: int | None = None


class VersionEvaluation(Document):
    """What a version of a model scores.

    Attributes:
        evaluation_set: the data that the metrics were measured with, by its version; absent where they are those of
            training. Only metrics of one evaluation set's version compare.
    """

    version: int
    digest: str
    metrics: dict[str, float] = Field(default_factory=dict)
    evaluation_set: DatasetUse | None = None
    job_name: str = ""
    round: int = 0
    time: str = ""
    aliases: list[str] = Field(default_factory=list)


class ModelEvaluation(Document):
    """The evaluations of a model's versions, newest first."""

    name: Label
    versions: list[VersionEvaluation] = Field(default_factory=list)


class EdgeDeployment(Document):
    """What one edge runs of a model, for one service.

    Attributes:
        role: ``infer`` on the edge, ``big-model`` in the cloud.
        alias: the alias that decides here; empty where the newest version is deployed.
        version: number of the version that shall run.
        digest: digest of its weights.
        running: digest of the weights that answer, as worker or agent told last; empty where none do.
        running_version: number of that version; absent where the model has none with these weights.
        state: ``deployed`` where they are the same; ``pending`` until they are; ``offline`` where the edge is not
            connected, and this is what it last told; ``failing`` where its worker or its agent reports why not.
        reason: the reason that they report.
    """

    edge: Label
    service: Label
    role: str
    alias: str = ""
    version: int | None = None
    digest: str = ""
    running: str = ""
    running_version: int | None = None
    state: Literal["deployed", "pending", "offline", "failing"] = "pending"
    reason: str = ""


class ModelDeployment(Document):
    """Where a model runs, edge by edge.

    Attributes:
        counts: state to the number of edges in it.
        edges: sorted by service and edge; the first thousand that the request selects.
    """

    name: Label
    counts: dict[str, int] = Field(default_factory=dict)
    edges: list[EdgeDeployment] = Field(default_factory=list)


class DeploymentQuery(Named):
    """A request for where a model runs.

    Attributes:
        state: only edges in this state.
        after: only edges after this one, by name, of each service.
    """

    state: Literal["deployed", "pending", "offline", "failing"] | None = None
    after: Label | None = None


class ModelExport(Document):
    """All that an export of a version needs, beside the bytes of its weights.

    Attributes:
        record: the JSON text ``model.json``, which the signature covers.
        framework: the framework of the model, where its document says one.
        public_key: PEM of the key that has signed, where this coordinator signs with it.
    """

    name: Label
    version: ModelVersion
    record: str
    labels: ModelLabels | None = None
    framework: str = ""
    public_key: str = ""


class KeyQuery(RequestBody):
    """A request for the key that signs versions of models. It has no fields."""


class SigningKey(Document):
    """The key that signs versions of models.

    Attributes:
        public_key: in PEM, as agents take it (``--model-keys``).
        key_id: SHA-256 of the PEM, which signatures name.
    """

    public_key: str
    key_id: str
