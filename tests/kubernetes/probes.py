"""A kind of custom resources with one field for each rule of a schema, for tests of the API itself."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from heliograph.coordinator.kubernetes.api import Api, Kind, Object

DEFINITIONS = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")

SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 9},
        "share": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
        "colour": {"type": "string", "enum": ["red", "green"], "default": "red"},
        "name": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]*$"},
        "flag": {"type": "boolean"},
        "maybe": {"type": "string", "nullable": True},
        "words": {"type": "array", "maxItems": 3, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "parts": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["key"],
            "items": {"type": "object", "required": ["key"], "properties": {
                "key": {"type": "string"}, "value": {"x-kubernetes-preserve-unknown-fields": True}}},
        },
        "limits": {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "integer"}},
    },
}  # fmt: skip
STATUS: dict[str, Any] = {
    "type": "object", "properties": {"phase": {"type": "string"}, "round": {"type": "integer"}},
}  # fmt: skip


@dataclass(frozen=True)
class Probes:
    """A kind of probes, and a namespace for them.

    Attributes:
        api: the API server.
    """

    api: Api
    kind: Kind
    namespace: str

    def probe(self, name: str = "a", spec: Object | None = None, **metadata: Any) -> Object:
        """Return a document of a probe that is not created yet."""
        return {"apiVersion": self.kind.api_version, "kind": self.kind.kind, "metadata": {"name": name, **metadata},
                "spec": {"size": 1} if spec is None else spec}  # fmt: skip

    async def create(self, name: str = "a", spec: Object | None = None, **metadata: Any) -> Object:
        return await self.api.create(self.kind, self.namespace, self.probe(name, spec, **metadata))

    async def get(self, name: str = "a") -> Object:
        return await self.api.get(self.kind, self.namespace, name)

    async def patch(self, patch: Object, name: str = "a") -> Object:
        return await self.api.patch(self.kind, self.namespace, name, patch)

    async def delete(self, name: str = "a", **how: Any) -> None:
        await self.api.delete(self.kind, self.namespace, name, **how)


def definition(kind: Kind) -> Object:
    """Return the definition of a kind of probes."""
    root = {"type": "object", "properties": {"spec": SPEC, "status": STATUS}}
    version = {"name": kind.version, "served": True, "storage": True, "schema": {"openAPIV3Schema": root},
               "subresources": {"status": {}}}  # fmt: skip
    names = {"plural": kind.plural, "singular": "probe", "kind": kind.kind, "listKind": "ProbeList"}
    return {
        "apiVersion": DEFINITIONS.api_version, "kind": DEFINITIONS.kind, "metadata": {"name": kind.resource},
        "spec": {"group": kind.group, "scope": "Namespaced", "names": names, "versions": [version]},
    }  # fmt: skip


def new_kind() -> Kind:
    """Return a kind of a group that nobody else uses."""
    return Kind(f"contract-{secrets.token_hex(4)}.example.com", "v1", "probes", "Probe")
