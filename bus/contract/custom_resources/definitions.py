"""The CustomResourceDefinition of each kind that people write, and of the edges that they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from heliograph.bus.contract.custom_resources.structural import Schema, structural
from heliograph.bus.contract.registry import BUILT_IN
from heliograph.bus.contract.resources import Resource
from heliograph.bus.contract.resources.base import API_VERSION
from heliograph.bus.contract.schemas import schemas
from heliograph.core.names import LABEL_SCHEMA

GROUP, _, VERSION = API_VERSION.partition("/")
CATEGORY = "heliograph"
"""``kubectl get heliograph`` lists resources of all kinds."""
HEAD = "# Generated from bus/contract/resources/ by 'make crds', which writes over every change here.\n"


@dataclass(frozen=True)
class Column:
    """A column of ``kubectl get``: its name, the path of its value, and the value's type."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False

    def printed(self) -> Schema:
        found: Schema = {"name": self.name, "type": self.type, "jsonPath": self.path}
        return found | {"priority": 1} if self.wide else found


@dataclass(frozen=True)
class Names:
    """What a kind is called in kubectl beside its own name, and what is shown of it."""

    short: tuple[str, ...]
    columns: tuple[Column, ...]


_PHASE = Column("Phase", ".status.phase")
KINDS: Mapping[str, Names] = {
    "FederatedTask": Names(("fedtask",), (
        _PHASE, Column("Round", ".status.round", "integer"), Column("Rounds", ".spec.rounds", "integer"),
        Column("Model", ".spec.aggregationWorker.model.name", wide=True),
        Column("Algorithm", ".spec.aggregationWorker.workerSpec.aggregationAlgorithm", wide=True),
    )),
    "JointInferenceService": Names(("jis",), (
        _PHASE, Column("Requests", ".status.total.requests", "integer"),
        Column("Offload", ".status.total.offloadRatio", "number"),
        Column("Agreement", ".status.total.agreement", "number"),
        Column("P99", ".status.total.p99Seconds", "number"),
        Column("Edge-Model", ".spec.edgeWorker.model.name", wide=True),
        Column("Cloud-Model", ".spec.cloudWorker.model.name", wide=True),
    )),
    "IncrementalLearningJob": Names(("ilj",), (
        _PHASE, Column("Location", ".spec.location"), Column("Round", ".status.loop.round", "integer"),
        Column("Step", ".status.loop.step"), Column("Waiting", ".status.waiting", "integer"),
        Column("Metric", ".status.metric", "number"),
    )),
    "PairTrainingJob": Names(("ptj",), (
        _PHASE, Column("Step", ".status.step"), Column("Edge", ".spec.edge.model.name"),
        Column("Cloud", ".spec.cloud.model.name"), Column("Accuracy", ".status.figures.after.accuracy", "number"),
        Column("Offload", ".status.figures.after.offload", "number"),
        Column("Service", ".status.service", wide=True),
    )),
    "Model": Names(("hgmodel",), (
        Column("Framework", ".spec.framework"), Column("Champion", ".status.aliases.champion", "integer"),
        Column("Description", ".spec.description", wide=True),
    )),
    "Dataset": Names(("dset",), (
        Column("Node", ".spec.nodeName"), Column("Format", ".spec.format"), Column("Url", ".spec.url", wide=True),
    )),
    "Algorithm": Names(("algo",), (
        Column("Package", ".spec.package.digest"), Column("Description", ".spec.description", wide=True),
    )),
    "LabelQueue": Names(("lq",), (
        Column("Type", ".spec.labelSchema.type"), Column("Waiting", ".status.waiting", "integer"),
        Column("Leased", ".status.leased", "integer"), Column("Labelled", ".status.labelled", "integer"),
        Column("Conflicts", ".status.conflicts", "integer"), Column("Alpha", ".status.alpha", "number"),
    )),
    "Edge": Names(("hgedge",), (
        Column("Online", ".status.online", "boolean"), Column("Since", ".status.since", "date"),
        Column("Waiting", ".status.waitingEvents", "integer"), Column("Agent", ".status.version", wide=True),
    )),
}  # fmt: skip
"""The kinds, with what ``heliograph get`` shows of them as far as one path of the document says it."""
_AGE = Column("Age", ".metadata.creationTimestamp", "date")


def definitions() -> dict[str, Schema]:
    """Return each definition, by the name of its file: ``edgeai.io_edges.yaml``."""
    return {f"{GROUP}_{plural_of(kind)}.yaml": definition(BUILT_IN.kinds[kind]) for kind in KINDS}


def files() -> dict[str, str]:
    """Return the text of each file, by its name."""
    return {name: HEAD + _as_yaml(each) for name, each in definitions().items()}


def plural_of(kind: str) -> str:
    """Return the plural of a kind in Kubernetes, ``federatedtasks``.

    It is not the one of requests: to kubectl ``jobs`` and ``services`` are Kubernetes' own.
    """
    return kind.lower() + "s"


def definition(kind: type[Resource]) -> Schema:
    """Return the CustomResourceDefinition of a kind."""
    name = kind.__name__
    names = KINDS[name]
    plural = plural_of(name)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": plural,
                "singular": name.lower(),
                "shortNames": list(names.short),
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _document(kind)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [each.printed() for each in (*names.columns, _AGE)],
                }
            ],
        },
    }


def _document(kind: type[Resource]) -> Schema:
    """Return the schema of a whole document. Kubernetes declares its own metadata, of which a schema may bound the name
    alone."""
    given = schemas(BUILT_IN)[kind.__name__]
    spec, status = (_model_of(kind, field) for field in ("spec", "status"))
    return {
        "type": "object",
        "description": given["description"],
        **({"required": ["spec"]} if "spec" in given.get("required", ()) else {}),
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": dict(LABEL_SCHEMA)}},
            "spec": structural(spec),
            "status": _observed(structural(status, observed=True)),
        },
    }


def _observed(status: Schema) -> Schema:
    """Add what the operator says of a custom resource: the generation of which status and conditions tell, and what it
    had to leave out of a status that is too large."""
    generation: Schema = {"type": "integer", "description": "Generation of the custom resource that is told of."}
    properties = status["properties"]
    properties["conditions"]["items"]["properties"]["observedGeneration"] = dict(generation)
    left_out: Schema = {"type": "object", "additionalProperties": {"type": "integer"},
                        "description": "Full lengths of what is shortened here, by its path."}  # fmt: skip
    # an edge has observed a generation of its own
    return {**status, "properties": {"observedGeneration": generation, "shortened": left_out, **properties}}


def _model_of(kind: type[Resource], field: str) -> Any:
    return kind.model_fields[field].annotation


def _as_yaml(document: Schema) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True)
