"""Documents of Sedna in a file, as documents of ours, and what of them has no place there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources.base import API_VERSION
from heliograph.core.errors import Refused
from heliograph.core.tree_file import parse, refusal_at_line
from heliograph.sedna.catalog import dataset, model
from heliograph.sedna.federated_learning import federated_task
from heliograph.sedna.fields import Fields, Finding
from heliograph.sedna.incremental_learning import incremental_learning_job
from heliograph.sedna.joint_inference import joint_inference_service
from heliograph.sedna.settings import Settings
from heliograph.sedna.values import as_written

SEDNA = "sedna.io/v1alpha1"
_Converter = Callable[[Fields, str, Settings], list[tuple[str, str, dict[str, Any]]]]
KINDS: Mapping[str, _Converter] = {
    "Dataset": dataset,
    "Model": model,
    "FederatedLearningJob": federated_task,
    "JointInferenceService": joint_inference_service,
    "IncrementalLearningJob": incremental_learning_job,
}
"""Sedna's kinds that have a counterpart. A converter returns kind, name and spec of each document of ours."""
_OF_KUBERNETES = "Kubernetes writes it"


@dataclass
class Conversion:
    """Our documents in the order of the file's, and what differs from these."""

    documents: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def convert(text: str, name: str, settings: Settings) -> Conversion:
    """Return the documents of a file of Sedna's as ours.

    Args:
        name: of the file, for errors.
        settings: what the documents do not say.

    Raises:
        Refused: naming file, line and field: another kind, or a document that lacks what ours needs.
    """
    found = Conversion()
    for tree, node in parse(text, name):
        try:
            _convert(as_written(tree, node), settings, found)
        except Refused as error:
            raise refusal_at_line(error, name, node) from None
    if not found.documents:
        raise Refused("empty", topic=name, expected=f"a document of {SEDNA}", got="an empty file")
    settings.check_all_used()
    return found


def _convert(tree: Any, settings: Settings, found: Conversion) -> None:
    if not isinstance(tree, Mapping):
        raise Refused("invalid", expected="a mapping with apiVersion, kind, metadata and spec", got=tree)
    kind = tree.get("kind")
    if tree.get("apiVersion") != SEDNA:
        raise Refused("invalid", field="apiVersion", expected=SEDNA, got=tree.get("apiVersion"))
    if not isinstance(kind, str) or kind not in KINDS:
        raise Refused("unknown-kind", field="kind", expected=" or ".join(KINDS), got=kind,
                      hint="Heliograph has no counterpart; take this document out of the file.")  # fmt: skip
    given = Fields(tree, "", f"{kind}/{_name_in(tree)}", found.findings)
    for name in ("apiVersion", "kind"):
        given.take(name)
    metadata = _metadata(given.part("metadata"))
    spec = given.part("spec")
    given.drop(_OF_KUBERNETES, "status")
    given.drop_rest()
    for ours, name, made in KINDS[kind](spec, metadata["name"], settings):
        document = {"apiVersion": API_VERSION, "kind": ours, "metadata": {**metadata, "name": name}, "spec": made}
        if any((each["kind"], each["metadata"]["name"]) == (ours, name) for each in found.documents):
            raise Refused("twice", field="metadata.name", expected=f"a name that no other {ours} has", got=name)
        try:
            parse_resource(document)
        except Refused as error:
            raise Refused(error.code, topic=f"{ours} {name}", field=error.field, expected=error.expected, got=error.got,
                          hint="The document that was made of Sedna's is not valid; mend the field there.") from None
        found.documents.append(document)


def _name_in(tree: Mapping[str, Any]) -> str:
    metadata = tree.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, Mapping) else ""


def _metadata(given: Fields) -> dict[str, Any]:
    name = given.label("name")
    if not name:
        raise Refused("invalid", field="metadata.name", expected="a name", got="nothing")
    found: dict[str, Any] = {"name": name}
    namespace = given.label("namespace")
    if namespace and namespace != "default":
        found["namespace"] = namespace
        given.changed("namespace", f"the project is called {namespace}; a name is unique in all projects together")
    if labels := given.take("labels"):
        found["labels"] = labels
    annotations = given.part("annotations")
    annotations.drop(_OF_KUBERNETES, "kubectl.kubernetes.io/last-applied-configuration")
    if kept := {key: annotations.take(key) for key in annotations.tree if not annotations.is_taken(key)}:
        found["annotations"] = kept
    given.drop_rest(_OF_KUBERNETES)
    return found
