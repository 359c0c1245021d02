"""The OpenAPI documents that kubectl reads: which kinds check unknown fields, and what ``kubectl explain`` prints."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.api_server.failure import PlainNotFound
from tests.kubernetes.api_server.kinds import Served

Object = dict[str, Any]
ROOT = "/openapi/v3"


def document(path: str, kinds: list[Served]) -> Object:
    """Return the index of the documents, or the one of a group and version. Raise PlainNotFound for other paths."""
    groups = {("apis/" if kind.group else "api/") + kind.api_version: kind for kind in kinds}
    if path == ROOT:
        return {"paths": {name: {"serverRelativeURL": f"{ROOT}/{name}?hash=0"} for name in groups}}
    name = path.removeprefix(f"{ROOT}/")
    if name not in groups:
        raise PlainNotFound
    found = [kind for kind in kinds if kind.api_version == groups[name].api_version]
    return {
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": {f"/{name}/{_place(kind)}": {"patch": _patch(kind)} for kind in found},
        "components": {"schemas": {_schema_name(kind): _schema(kind) for kind in found}},
    }  # fmt: skip


def _place(kind: Served) -> str:
    return f"namespaces/{{namespace}}/{kind.plural}/{{name}}" if kind.namespaced else f"{kind.plural}/{{name}}"


def _gvk(kind: Served) -> Object:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _patch(kind: Served) -> Object:
    parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    return {"operationId": f"patch{kind.kind}", "parameters": [parameter], "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": _gvk(kind)}  # fmt: skip


def _schema_name(kind: Served) -> str:
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind]).lstrip(".")


def _schema(kind: Served) -> Object:
    return {**(kind.schema or {"type": "object"}), "x-kubernetes-group-version-kind": [_gvk(kind)]}
