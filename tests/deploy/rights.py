"""What the Roles and bindings of manifests allow, decided as Kubernetes does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def rights_of(manifests: list[dict[str, Any]], account: str, namespace: str) -> Callable[[str, str, str], bool]:
    """Return whether a ServiceAccount may: by verb, resource (``models.edgeai.io/status``) and namespace (``""`` for
    all of them)."""
    roles = {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each["rules"]
             for each in manifests if each["kind"] in ("Role", "ClusterRole")}  # fmt: skip
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    granted: dict[str, list[dict[str, Any]]] = {}
    for each in manifests:
        if each["kind"].endswith("RoleBinding") and subject in each["subjects"]:
            place = each["metadata"].get("namespace", "")
            granted.setdefault(place, []).extend(roles[each["roleRef"]["kind"], place, each["roleRef"]["name"]])

    def may(verb: str, resource: str, place: str) -> bool:
        name, _, below = resource.partition("/")
        plural, _, group = name.partition(".")
        wanted = f"{plural}/{below}" if below else plural
        return any(group in rule["apiGroups"] and wanted in rule["resources"] and verb in rule["verbs"]
                   for rule in (*granted.get("", ()), *(granted.get(place, ()) if place else ())))  # fmt: skip

    return may
