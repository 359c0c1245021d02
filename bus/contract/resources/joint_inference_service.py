"""JointInferenceService: a shallow model on the edge answers what it is sure of, a deep one in the cloud the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from heliograph.bus.contract.resources.base import Condition, Document, Parameter, Reference, Resource, ShortText
from heliograph.core.names import CLOUD, Label

MOST_REPLICAS = 64
ServicePhase = Literal["Pending", "Running", "Stopped"]


class InferenceScript(Document):
    """What an inference worker runs: a script that makes its model and serves it (``JointInference.serve``)."""

    model: Reference
    script_dir: ShortText | None = None
    script_boot_file: ShortText
    framework_type: ShortText | None = None
    parameters: list[Parameter] = Field(default_factory=list, max_length=256)


class CloudInference(InferenceScript):
    """The deep model: replicas share the requests, each answers them in batches."""

    node_name: Label = CLOUD
    replicas: Annotated[int, Field(ge=1, le=MOST_REPLICAS, strict=True)] = 1
    max_batch: Annotated[int, Field(ge=1, le=4096, strict=True)] = 32
    max_wait_seconds: Annotated[float, Field(ge=0, le=1)] = 0.001


class HardSampleRule(Document):
    """Which answers of the edge's model are not good enough. The name is one that some agent's workers offer."""

    name: ShortText = "threshold"
    parameters: list[Parameter] = Field(default_factory=list, max_length=64)
    temperature: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """By which the edge's scores are calibrated before the rule sees them (Guo et al. 2017)."""


class OffloadBudget(Document):
    """What an edge may send to the cloud; what is beyond it the edge answers itself, marked as degraded."""

    requests_per_second: Annotated[float, Field(gt=0, le=1e9)] | None = None
    bytes_per_second: Annotated[float, Field(gt=0, le=1e12)] | None = None


class EdgeSelection(Document):
    """The edges of a service: ``{names: [edge-1, edge-2]}``, or ``{all: true}``, also those that come later.

    A list of names and ``all``, as release 0.1 had them, are read as well.
    """

    _FORMS: ClassVar[str] = "{names: [EDGE, ...]} or {all: true}"

    names: Annotated[list[Label], Field(min_length=1, max_length=10_000)] | None = None
    all: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_0_1_wrote_it(cls, given: Any) -> Any:
        if isinstance(given, list):
            return {"names": given}
        if given == "all":
            return {"all": True}
        if not isinstance(given, (Mapping, cls)):
            raise ValueError(f"expected {cls._FORMS}")
        return given

    @model_validator(mode="after")
    def _exactly_one(self) -> EdgeSelection:
        if (self.names is None) != bool(self.all):
            raise ValueError(f"expected either {self._FORMS}")
        return self


class JointInferenceServiceSpec(Document):
    """What to serve, where, and when the cloud is asked.

    Attributes:
        edges: where the edge's worker runs; without it on all edges.
        deadline_seconds: of a request that brings none of its own.
        fallback: what a request gets that the cloud did not answer in time: the edge's own answer, marked as
            degraded, or an error.
        hard_samples_to: the incremental job that gets the hard samples, each once, on ``event/hard-sample``.
    """

    edge_worker: InferenceScript
    cloud_worker: CloudInference
    hard_sample_rule: HardSampleRule = Field(default_factory=HardSampleRule)
    edges: EdgeSelection = Field(default_factory=lambda: EdgeSelection(all=True))
    deadline_seconds: Annotated[float, Field(gt=0, le=3600)] = 0.5
    offload_budget: OffloadBudget = Field(default_factory=OffloadBudget)
    fallback: Literal["edge", "error"] = "edge"
    hard_samples_to: Label | None = None


class ServiceNumbers(Document):
    """What was asked of a service, on one edge or on all, since its workers were started.

    Attributes:
        requests: answered ones; each is by the edge or by the cloud, or an error.
        hard: requests that the rule found hard, each once.
        degraded: hard ones that the edge answered all the same.
        agreement: of the answers that both models gave, the share that were the same; None while there is none.
        p50_seconds, p99_seconds: of the whole request, where it was asked.
    """

    requests: int = 0
    by_edge: int = 0
    by_cloud: int = 0
    hard: int = 0
    degraded: int = 0
    errors: int = 0
    offload_ratio: float = 0.0
    agreement: float | None = None
    p50_seconds: float | None = None
    p99_seconds: float | None = None
    bytes_offloaded: int = 0
    model: str = ""
    """Digest of the model that answers; on all edges together, empty."""
    trouble: str = ""


class JointInferenceServiceStatus(Document):
    """Where a service runs and what is asked of it."""

    phase: ServicePhase = "Pending"
    conditions: list[Condition] = Field(default_factory=list)
    edges: dict[str, ServiceNumbers] = Field(default_factory=dict)
    """The edges it runs on, the first few hundred by name; ``total`` has all of them, also those that it left."""
    total: ServiceNumbers = Field(default_factory=ServiceNumbers)
    cloud: ServiceNumbers = Field(default_factory=ServiceNumbers)
    """What the deep model was asked, over its replicas."""
    start_time: str = ""
    stopped: bool = False
    edge_generation: int = 1
    """The generation of the spec that last changed what the edges' workers run; they are launched anew at each."""
    cloud_generation: int = 1
    """The same of the deep model's workers."""


class JointInferenceService(Resource):
    """``kind: JointInferenceService``."""

    plural: ClassVar[str] = "services"

    kind: Literal["JointInferenceService"] = "JointInferenceService"
    spec: JointInferenceServiceSpec
    status: JointInferenceServiceStatus = Field(default_factory=JointInferenceServiceStatus)
