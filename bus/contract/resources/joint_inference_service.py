"""JointInferenceService: a shallow model on the edge answers easy samples, a deep model in the cloud the hard ones."""

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from heliograph.bus.contract.resources.algorithm import PinnedPackage
from heliograph.bus.contract.resources.base import (
    Condition,
    Document,
    Parameter,
    Reference,
    Resource,
    RunsCode,
    ShortText,
)
from heliograph.bus.contract.resources.edge_selection import EdgeSelection
from heliograph.bus.contract.resources.node_resources import Priority, WorkerResources
from heliograph.bus.contract.resources.triggers import Detector
from heliograph.bus.contract.resources.worker_image import RunsImage
from heliograph.bus.contract.versions import added
from heliograph.core.names import CLOUD, Label

MOST_REPLICAS = 64
ServicePhase = Literal["Pending", "Running", "Stopped"]


class InferenceScript(RunsImage):
    """The code of an inference worker: it makes the model and serves it (``JointInference.serve``).

    Attributes:
        algorithm: the Algorithm whose package it runs, in place of a script on its node.
        script_boot_file: the script, below a code root of the node's agent.
        script_dir: the directory that the script imports from; by default its own.
        script_arguments: the script's arguments, one for each word.
        script_working_dir: the directory whose files the script finds by relative names; by default the one that it
            imports from.
        resources: what the worker asks of its node.
        format: ``onnx`` or ``tflite`` serve the model's file itself, without a script.
        output: with such a format the model's output that holds the scores; without it the only one of floats.
        outputs: with such a format what that output's numbers are; without it the model tells.
    """

    model: Reference
    algorithm: Reference | None = added("0.2")
    script_dir: ShortText | None = None
    script_boot_file: ShortText | None = None
    script_arguments: Annotated[list[ShortText], Field(max_length=256)] = added("0.2", [])
    script_working_dir: ShortText | None = added("0.2")
    framework_type: ShortText | None = None
    parameters: list[Parameter] = Field(default_factory=list, max_length=256)
    resources: WorkerResources | None = added("0.2")
    format: Literal["script", "onnx", "tflite"] = added("0.2", "script")
    output: ShortText = added("0.2", "")
    outputs: Literal["probabilities", "logits", "values"] | None = added("0.2")

    @model_validator(mode="after")
    def _one_code(self) -> Self:
        on_node = any((self.script_boot_file, self.script_dir, self.script_working_dir))
        if self.format != "script" and (on_node or self.algorithm or self.script_arguments or self.parameters
                                        or self.image_script):
            raise ValueError(f"format {self.format}, which runs no code; leave out script…, args, algorithm and "
                             "parameters")  # fmt: skip
        if self.format == "script" and (self.output or self.outputs):
            raise ValueError("output or outputs without format: onnx or tflite; a script says them by itself")
        if self.algorithm is not None and on_node:
            raise ValueError("algorithm and a script on the node (script…); give one of the two")
        if self.image_script and (self.algorithm is not None or on_node or self.script_arguments):
            raise ValueError("args name a script in the image, beside algorithm or a script on the node (script…); "
                             "give one of the two")  # fmt: skip
        named = self.algorithm is not None or self.script_boot_file is not None or bool(self.image_script)
        if self.format == "script" and not named:
            raise ValueError("a worker names no scriptBootFile, no algorithm and no script in an image, and no format: "
                             "onnx or tflite, which needs none")  # fmt: skip
        return self


class CloudInference(InferenceScript):
    """The deep model. Its replicas share the requests; each answers them in batches."""

    node_name: Label = CLOUD
    replicas: Annotated[int, Field(ge=1, le=MOST_REPLICAS, strict=True)] = 1
    max_batch: Annotated[int, Field(ge=1, le=4096, strict=True)] = 32
    max_wait_seconds: Annotated[float, Field(ge=0, le=1)] = 0.001


class HardSampleRule(Document):
    """The rule that decides which samples are hard for the edge's model. Some agent's workers must offer it."""

    name: ShortText = "threshold"
    parameters: list[Parameter] = Field(default_factory=list, max_length=64)
    temperature: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Temperature that calibrates the edge's scores before the rule reads them (Guo et al. 2017)."""


class OffloadBudget(Document):
    """The most that an edge offloads to the cloud. Beyond it the edge answers itself, marked as degraded."""

    requests_per_second: Annotated[float, Field(gt=0, le=1e9)] | None = None
    bytes_per_second: Annotated[float, Field(gt=0, le=1e12)] | None = None


class JointInferenceServiceSpec(Document):
    """The models to serve, the edges, and when an edge offloads to the cloud.

    Attributes:
        cloud_worker: the deep model; without one the edge answers hard samples too, marked as degraded.
        edges: edges that run the edge's worker; without it all edges.
        deadline_seconds: deadline of a request that names none.
        fallback: answer to a hard request that the cloud did not answer in time: the edge's own answer, marked as
            degraded, or an error.
        hard_samples_to: incremental job that receives each hard sample once, on ``edge/<edge>/up/hard-sample``.
        drift: detectors that watch the edge model's scores and its inputs, for jobs that train on drift.
        priority: which worker runs where it and another one do not fit on a node together.
    """

    edge_worker: InferenceScript
    cloud_worker: CloudInference | None = None
    hard_sample_rule: HardSampleRule = Field(default_factory=HardSampleRule)
    edges: EdgeSelection = Field(default_factory=lambda: EdgeSelection(all=True))
    deadline_seconds: Annotated[float, Field(gt=0, le=3600)] = 0.5
    offload_budget: OffloadBudget = Field(default_factory=OffloadBudget)
    fallback: Literal["edge", "error"] = "edge"
    hard_samples_to: Label | None = None
    drift: Annotated[list[Detector], Field(max_length=5)] = added("0.2", [])
    priority: Priority = added("0.2", 0)


class ServiceNumbers(Document):
    """Counts of a service's requests since its workers' start, on one edge or on all.

    Attributes:
        requests: answered requests: by the edge, by the cloud, or by an error.
        hard: requests that the rule found hard.
        degraded: hard requests that the edge answered all the same.
        agreement: share of equal answers among the requests that both models answered; absent while there is none.
        p50_seconds, p99_seconds: percentiles of a request's whole latency, measured on the edge.
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
    """Digest of the model that answers; empty in the total of all edges."""
    trouble: str = ""


class JointInferenceServiceStatus(Document):
    """The edges that a service runs on, and the counts of its requests."""

    phase: ServicePhase = "Pending"
    """``Running`` while an edge's worker answers, from when a worker of the deep model has answered, too."""
    conditions: list[Condition] = Field(default_factory=list)
    edges: dict[str, ServiceNumbers] = Field(default_factory=dict)
    """The edges that it runs on, the first few hundred by name. ``total`` counts all edges, also former ones."""
    total: ServiceNumbers = Field(default_factory=ServiceNumbers)
    cloud: ServiceNumbers = Field(default_factory=ServiceNumbers)
    """The deep model's requests, over all replicas."""
    start_time: str = ""
    stopped: bool = False
    edge_generation: int = 1
    """Generation of the spec that last changed what the edges' workers run; each such change launches them anew."""
    cloud_generation: int = 1
    """Generation of the spec that last changed what the deep model's workers run."""
    packages: dict[str, PinnedPackage] = added("0.2", {})
    """The packages that the workers run, by the name of their Algorithm: those that it had when the service was
    started, or what its workers run was changed."""


class JointInferenceService(Resource):
    """``kind: JointInferenceService``."""

    plural: ClassVar[str] = "services"

    kind: Literal["JointInferenceService"] = "JointInferenceService"
    spec: JointInferenceServiceSpec
    status: JointInferenceServiceStatus = Field(default_factory=JointInferenceServiceStatus)

    @property
    def listed_workers(self) -> int:
        """Number of edges that it names, and of replicas."""
        deep = self.spec.cloud_worker
        replicas = deep.replicas if deep is not None else 0
        return 0 if self.status.stopped else len(self.spec.edges.names or ()) + replicas

    @property
    def code_workers(self) -> Mapping[str, RunsCode]:
        deep = {"spec.cloudWorker": self.spec.cloud_worker} if self.spec.cloud_worker is not None else {}
        return {"spec.edgeWorker": self.spec.edge_worker, **deep} if not self.status.stopped else {}

    @property
    def pinned_digests(self) -> Collection[str]:
        return {each.digest for each in self.status.packages.values()} if not self.status.stopped else ()
