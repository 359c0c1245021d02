"""What clients such as kubectl ask first: which groups, versions and kinds there are."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.api_server.failure import PlainNotFound
from tests.kubernetes.api_server.kinds import Served

Object = dict[str, Any]
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
VERBS_OF_STATUS = ["get", "patch", "update"]
VERSION = {"major": "1", "minor": "36", "gitVersion": "v1.36.0", "platform": "linux/amd64"}


def discovered(path: str, kinds: list[Served]) -> Object:
    """Return the answer to a path of discovery. Raise PlainNotFound where it is none."""
    groups: dict[str, list[str]] = {}
    for kind in kinds:
        versions = groups.setdefault(kind.group, [])
        if kind.version not in versions:
            versions.append(kind.version)
    match path.strip("/").split("/"):
        case ["version"]:
            return dict(VERSION)
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1",
                    "groups": [_group(name, versions) for name, versions in groups.items() if name]}  # fmt: skip
        case ["apis", group] if group in groups:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, groups[group])}
        case ["api", "v1"]:
            return _resources([kind for kind in kinds if not kind.group])
        case ["apis", group, version] if version in groups.get(group, ()):
            return _resources([kind for kind in kinds if (kind.group, kind.version) == (group, version)])
    raise PlainNotFound


def _group(name: str, versions: list[str]) -> Object:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _resources(kinds: list[Served]) -> Object:
    found = []
    for kind in kinds:
        one = {"name": kind.plural, "singularName": kind.kind.lower(), "namespaced": kind.namespaced, "kind": kind.kind,
               "verbs": VERBS, "shortNames": list(kind.short_names), "categories": list(kind.categories)}  # fmt: skip
        found.append(one)
        if kind.status:
            found.append({**one, "name": f"{kind.plural}/status", "singularName": "", "verbs": VERBS_OF_STATUS,
                          "shortNames": [], "categories": []})  # fmt: skip
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": kinds[0].api_version, "resources": found}
