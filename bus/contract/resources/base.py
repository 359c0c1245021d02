"""Base of all resources: Kubernetes' shape, conditions and references."""

import base64
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from heliograph.bus.contract.scopes import DEFAULT_PROJECT
from heliograph.bus.contract.versions import added
from heliograph.core.names import Digest, Label, LabelOrEmpty

API_VERSION: Literal["edgeai.io/v1alpha1"] = "edgeai.io/v1alpha1"

ShortText = Annotated[str, StringConstraints(max_length=1024)]
Scalar = bool | int | float | ShortText | None
WeightsFormat = Literal["safetensors", "onnx", "tflite"]
"""What a file of weights is: arrays that a script loads, or a whole model that a runtime serves without a script."""


class Document(BaseModel):
    """Base of all parts of a resource. Field names are camelCase on the wire; validation refuses unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        allow_inf_nan=False,
        serialize_by_alias=True,
        defer_build=True,
    )


class Metadata(Document):
    """Identity of a resource. A resource that is deleted and created again has a new ``uid``.

    Attributes:
        generation: grows with each change of spec, labels or annotations.
        namespace: the project that the resource belongs to; empty for ``default``, or of an edge for all projects. It
            never changes. A name is unique in all projects together.
        resource_version: grows with each change of the resource, those of its status among them. An update that names
            one is refused where somebody else has changed spec, labels or annotations since.
    """

    name: Label
    uid: ShortText = ""
    generation: int = 0
    resource_version: ShortText = ""
    creation_timestamp: ShortText = ""
    namespace: LabelOrEmpty = ""
    labels: dict[ShortText, ShortText] = Field(default_factory=dict, max_length=64)
    annotations: dict[ShortText, Annotated[str, StringConstraints(max_length=65536)]] = Field(
        default_factory=dict, max_length=64
    )
    created_by: ShortText = added("0.2", "")
    """The caller whose request created the resource; empty where the coordinator made it by itself. The coordinator
    writes it, and ignores it in a request."""


class Condition(Document):
    """One observed fact about a resource, in Kubernetes' form."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: str = ""


class Reference(Document):
    """Another resource, by name."""

    name: Label


class Parameter(Document):
    """A named setting. Without a value the default of the algorithm or rule applies.

    The algorithm's own schema decides the type of the value: it is the only field of a resource with a union of types.
    A custom resource declares ``x-kubernetes-preserve-unknown-fields`` for it.
    """

    key: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    value: Scalar = None


class PartOrAll(Document):
    """Base of a choice between some and all: a subclass adds the field for some.

    Exactly one of the two is given. The forms of release 0.1, the field's value by itself and the word ``all``, are
    valid too.
    """

    part: ClassVar[str]
    """Name of the subclass's field."""
    part_type: ClassVar[type]
    """Type of its value."""
    forms: ClassVar[str]
    """Both forms, for errors."""

    all: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_0_1_wrote_it(cls, given: Any) -> Any:
        if type(given) is cls.part_type:
            return {cls.part: given}
        if given == "all":
            return {"all": True}
        if not isinstance(given, (Mapping, cls)):
            raise ValueError(f"expected {cls.forms}")
        return given

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (getattr(self, self.part) is None) != bool(self.all):
            raise ValueError(f"expected either {self.forms}")
        return self


def _bytes_of(value: Any) -> Any:
    return base64.b64decode(value, validate=True) if isinstance(value, str) else value


def _text_of(value: bytes) -> str:
    return base64.b64encode(value).decode()


Binary = Annotated[
    bytes,
    Field(max_length=256 * 1024),
    BeforeValidator(_bytes_of),
    PlainSerializer(_text_of, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "byte", "maxLength": 4 * -(-256 * 1024 // 3)}),
]


MAX_SAMPLE = 6 * 1024 * 1024
"""Bytes of one sample that travels in an event, at most: a broker's messages have at most 8 MiB, and JSON needs a third
more than the sample has."""
SampleBytes = Annotated[
    bytes,
    Field(max_length=MAX_SAMPLE),
    BeforeValidator(_bytes_of),
    PlainSerializer(_text_of, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "byte", "maxLength": 4 * -(-MAX_SAMPLE // 3)}),
]


class WeightsRef(BaseModel):
    """A reference to weights by the SHA-256 of their file.

    ``inline`` is the file itself if it has at most 256 kB; otherwise ``bucket`` names the object store with the blob.

    Attributes:
        digest: SHA-256 of the file; the name of the blob.
        size: bytes of the file.
        format: what the file is. Nobody guesses it from the bytes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    digest: Digest
    size: Annotated[int, Field(ge=0, le=1 << 40)]
    bucket: Label | None = None
    inline: Binary | None = None
    format: WeightsFormat = added("0.2", "safetensors")


class RunsCode(Protocol):
    """The part of a spec that may name an Algorithm, whose package its worker runs, and gives it parameters."""

    @property
    def algorithm(self) -> Reference | None: ...

    @property
    def parameters(self) -> list[Parameter]: ...


class Resource(Document):
    """A document with ``apiVersion``, ``kind``, ``metadata``, ``spec`` and ``status``."""

    plural: ClassVar[str]
    of_project: ClassVar[bool] = True
    """Whether a resource that names no project belongs to the one of that name, and else to no project."""
    everybody_reads: ClassVar[bool] = False
    """Whether everybody with any scope reads a resource of no project; else operators alone do."""

    api_version: Literal["edgeai.io/v1alpha1"] = API_VERSION
    metadata: Metadata

    @field_validator("status", mode="before", check_fields=False)
    @classmethod
    def _status_of_any_version(cls, given: Any) -> Any:
        """Ignore unknown fields of a status at every depth: a program of another version may have written it."""
        kind: Any = cls.model_fields["status"].annotation
        return given if isinstance(given, kind) else kind.model_validate(given, extra="ignore")

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def project(self) -> str:
        """The project that the resource belongs to; empty for none."""
        return self.metadata.namespace or (DEFAULT_PROJECT if self.of_project else "")

    @property
    def belongs_to(self) -> str:
        """The login that may read the resource beside those with a scope; empty for none."""
        return ""

    @property
    def selectable(self) -> Mapping[str, str]:
        """The labels that a selector looks at."""
        return self.metadata.labels

    @property
    def listed_workers(self) -> int:
        """Number of entries for workers, which a quota bounds; 0 for a kind without workers, and once a job has
        ended."""
        return 0

    @property
    def code_workers(self) -> Mapping[str, RunsCode]:
        """The workers that the user's code may run in, by their path in the document; none for a kind without, and once
        the resource runs nothing any more."""
        return {}

    @property
    def pinned_digests(self) -> Collection[str]:
        """The packages of code that the resource goes on to run, whatever becomes of their Algorithms."""
        return ()


def condition(conditions: list[Condition], new: Condition, now: str) -> list[Condition]:
    """Return ``conditions`` with ``new`` in place of the one of its type; the same list if nothing changes.

    The transition time changes only if the status does.
    """
    old = next((each for each in conditions if each.type == new.type), None)
    if old is not None and (old.status, old.reason, old.message) == (new.status, new.reason, new.message):
        return conditions
    since = old.last_transition_time if old is not None and old.status == new.status else now
    return [each for each in conditions if each.type != new.type] + [
        new.model_copy(update={"last_transition_time": since})
    ]
