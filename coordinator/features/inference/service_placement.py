"""Where a joint inference service runs, what it needs there, and what keeps it from there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heliograph.bus.contract.resources import (
    MOST_REPLICAS,
    NAMED,
    InferenceScript,
    JointInferenceService,
    ModelVersion,
)
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.packages import (
    missing_packages,
)
from heliograph.core.names import CLOUD, join_labels


def placement(service: JointInferenceService, view: View) -> list[str]:
    """Return the known edges that its spec names, online or not; ``all`` means every edge except the cloud."""
    return view.serving(service.project).selected(service.spec.edges)


def replicas(service: JointInferenceService) -> list[str]:
    """Return the names of all workers that may ever have run its deep model."""
    return [join_labels(service.name, f"big-{number}") for number in range(MOST_REPLICAS)]


def edge_worker(service: JointInferenceService) -> str:
    return join_labels(service.name, "infer")


def models(service: JointInferenceService) -> list[str]:
    """Return the names of the models that the service runs."""
    deep = service.spec.cloud_worker
    return [service.spec.edge_worker.model.name, *([deep.model.name] if deep is not None else [])]


def deep_node(service: JointInferenceService) -> str:
    """Return the node of the deep model; the cloud where there is none."""
    return service.spec.cloud_worker.node_name if service.spec.cloud_worker is not None else CLOUD


def what_is_missing(service: JointInferenceService, view: View, placed: Sequence[str]) -> Iterator[str]:
    for name in dict.fromkeys(models(service)):
        if name not in view.models:
            yield f"model {name} does not exist"
    if service.spec.cloud_worker is not None and (node := deep_node(service)) not in view.edges:
        yield f"node {node} of cloudWorker is unknown"
    if not placed:
        names = service.spec.edges.names
        yield "no edge is known" if names is None else f"none of its edges is known: {', '.join(names[:NAMED])}"
    if not service.status.packages:
        yield from missing_packages(service, view)


def unable(script: InferenceScript, node: str, view: View) -> str:
    """Return why a node cannot run a worker's format; empty where it can."""
    if script.format == "script" or script.format in view.formats(node):
        return ""
    return f"no runtime for format {script.format} is installed; pip install 'heliograph[{script.format}]' there"


def other_format(script: InferenceScript, version: ModelVersion | None) -> str:
    """Return why a version cannot be served as a worker's format says; empty where it can."""
    wanted = "safetensors" if script.format == "script" else script.format
    if version is None:
        return "" if script.format == "script" else f"model {script.model.name} has no version: upload its file"
    if version.weights.format == wanted:
        return ""
    return (f"version {version.version} of model {script.model.name} is a {version.weights.format} file, and the "
            f"worker's format is {script.format}")  # fmt: skip
