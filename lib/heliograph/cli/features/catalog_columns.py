"""Columns of the resources that jobs and services name: edges, models, data sets and algorithms; and of quarantines."""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.contract.resources import Model, resolve
from heliograph.cli.cells import Cell, Document, age, age_of, failing, name_of, short_metrics, size, some_of, status_of
from heliograph.cli.presentation import Presentation
from heliograph.incremental.loop import seconds


def _edge_row(document: Document, now: float) -> list[Cell]:
    status = status_of(document)
    invitation = status.get("invitation", "")
    return [
        name_of(document),
        "online" if status.get("online") else "offline",
        age(status.get("since", ""), now),
        some_of(status.get("datasets", ())),
        some_of([each.partition(" ")[0] for each in status.get("frameworks", ())]),
        str(len(status.get("workers", ()))),
        str(status.get("waitingEvents", 0)),
        invitation if invitation != document.get("metadata", {}).get("name") else "",  # of a group alone
        some_of([f"{key}={value}" for key, value in document.get("spec", {}).get("labels", {}).items()]),
        failing(document) or ("a participant that trains by itself" if status.get("foreign") else ""),
    ]


def _model_row(document: Document, now: float) -> list[Cell]:
    deployed = resolve(Model.model_validate(document, extra="ignore"))
    return [
        name_of(document),
        str(deployed.version if deployed else 0),
        str(deployed.round) if deployed and deployed.version else "",
        size(deployed.weights.size).replace(" ", "") if deployed else "",
        deployed.weights.digest[:12] if deployed else "",
        short_metrics(deployed.metrics) if deployed else [],
        age_of(document, now),
        document.get("spec", {}).get("description", ""),
    ]


def _dataset_row(document: Document, now: float) -> list[Cell]:
    edges: Mapping[str, Document] = status_of(document).get("edges", {})
    good = [each for each in edges.values() if not each.get("error")]
    columns = {name: dtype for each in good for name, dtype in each.get("columns", {}).items()}
    return [
        name_of(document),
        some_of(sorted(edges)),
        str(sum(each.get("samples", 0) for each in good)),
        str(sum(status_of(document).get("waiting", {}).values())),
        some_of(sorted({each.get("version", "")[:12] for each in good} - {""})),
        some_of(sorted({each["format"] for each in good if each.get("format")})),
        some_of([f"{name}:{dtype}" for name, dtype in columns.items()]),
        "; ".join(f"{edge}: {each['error']}" for edge, each in edges.items() if each.get("error")),
    ]


def _algorithm_row(document: Document, now: float) -> list[Cell]:
    spec = document.get("spec", {})
    package = spec.get("package") or {}
    parameters = [
        f"{key}={schema['default']}" if isinstance(schema, Mapping) and schema.get("default") is not None else key
        for key, schema in spec.get("parameters", {}).items()
    ]
    return [
        name_of(document),
        some_of(status_of(document).get("edges", ())),
        parameters,
        str(package.get("digest", ""))[:12],
        "yes" if package.get("signature") else "",
        spec.get("description", "").partition(". ")[0].replace("``", ""),  # a docstring's
        failing(document),
    ]


def _invitation_row(document: Document, now: float) -> list[Cell]:
    spec = document.get("spec", {})
    created = document.get("metadata", {}).get("creationTimestamp", "")
    left = seconds(created) + spec.get("seconds", 0) - now if created else 0.0
    return [
        name_of(document),
        str(spec.get("nodes", 1)),
        some_of(sorted(status_of(document).get("enrolled", {}))),
        age_of(document, now),
        f"in {max(1, round(left / 60))} min" if left > 0 else "expired",
    ]


def _user_row(document: Document, now: float) -> list[Cell]:
    spec, status = document.get("spec", {}), status_of(document)
    invitation = spec.get("invitation") or {}
    open_still = invitation.get("key", "") != status.get("invitedBy", "") and invitation.get("expires", 0) > now
    return [
        name_of(document),
        some_of([f"{each['scope']}@{each.get('project', 'default')}" for each in spec.get("grants", ())]),
        age(status.get("enrolled", ""), now),
        status.get("key", "")[:12],
        "invited" if open_still else "",
        age_of(document, now),
    ]


def _quarantine_row(document: Document, now: float) -> list[Cell]:
    spec = document.get("spec", {})
    return [
        name_of(document),
        spec.get("key", ""),
        size(spec.get("size", 0)).replace(" ", ""),
        age(status_of(document).get("since", ""), now),
        spec.get("reason", ""),
    ]


def _edge_wide(document: Document) -> list[Cell]:
    status = status_of(document)
    counts = (status.get(f"{word}Events", 0) for word in ("dropped", "refused", "anomalous"))
    formats = some_of([each.partition(" ")[0] for each in status.get("formats", ())])
    words = (status.get(key, "") for key in ("node", "version", "observedGeneration"))
    return [formats, *words, *map(str, counts)]


def _model_wide(document: Document) -> list[Cell]:
    versions = status_of(document).get("versions", ())
    newest = versions[-1] if versions else {}
    return [newest.get("job", ""), str(len(versions))]


def _dataset_wide(document: Document) -> list[Cell]:
    spec = document.get("spec", {})
    return [spec.get("nodeName") or "", spec.get("url") or ""]


EDGES = Presentation(
    "NAME STATE SINCE DATASETS FRAMEWORKS WORKERS WAITING GROUP LABELS NOTE", _edge_row,
    wide="FORMATS NODE AGENT OBSERVED DROPPED REFUSED ANOMALOUS", wide_row=_edge_wide,
)  # fmt: skip
MODELS = Presentation(
    "NAME VERSION ROUND SIZE DIGEST METRICS AGE DESCRIPTION", _model_row, wide="JOB VERSIONS", wide_row=_model_wide
)
DATASETS = Presentation(
    "NAME EDGES SAMPLES WAITING VERSION FORMAT COLUMNS NOTE", _dataset_row, wide="NODE URL", wide_row=_dataset_wide
)
ALGORITHMS = Presentation("NAME EDGES PARAMETERS PACKAGE SIGNED DESCRIPTION NOTE", _algorithm_row)
INVITATIONS = Presentation("NAME NODES ENROLLED AGE EXPIRES", _invitation_row)
USERS = Presentation("NAME SCOPES ENROLLED KEY NOTE AGE", _user_row)
QUARANTINES = Presentation("NAME DOCUMENT SIZE SINCE REASON", _quarantine_row)
