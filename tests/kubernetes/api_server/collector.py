"""Deletes what is to go: dependents of what is gone, what lies in namespaces and of definitions being deleted."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.kubernetes.api_server.kinds import DEFINITIONS, NAMESPACES, Served
from tests.kubernetes.api_server.registry import CLEANUP, FOREGROUND, ORPHAN, Registry

Object = dict[str, Any]


class Collector:
    """The controllers that delete. Each step comes in a later turn of the loop, as they work beside the API."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store
        self._due = False
        registry.on_deleted = self.soon

    def soon(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._collect)

    def _collect(self) -> None:
        self._due = False
        for definition in self._store.all(DEFINITIONS.resource):
            if "deletionTimestamp" in definition["metadata"]:
                self._empty_definition(definition)
        for namespace in self._store.all(NAMESPACES.resource):
            if "deletionTimestamp" in namespace["metadata"]:
                self._empty_namespace(namespace)
        if self._registry.has_dependents:
            self._collect_dependents()

    def _empty_definition(self, definition: Object) -> None:
        name = definition["metadata"]["name"]
        left = self._store.all(name)
        for each in left:
            self._delete(self._registry.of_resource(name), each)
        if not self._store.all(name):
            self._finish(DEFINITIONS, definition, CLEANUP)

    def _empty_namespace(self, namespace: Object) -> None:
        name, left = namespace["metadata"]["name"], 0
        for resource in self._store.resources():
            for each in self._store.all(resource, name):
                self._delete(self._registry.of_resource(resource), each)
            left += len(self._store.all(resource, name))
        if not left:
            self._finish(NAMESPACES, namespace, "kubernetes")

    def _collect_dependents(self) -> None:
        every = [(resource, each) for resource in self._store.resources() for each in self._store.all(resource)]
        present = {each["metadata"]["uid"]: each for _, each in every}
        dependents: dict[str, list[Object]] = {}
        for resource, each in every:
            owners = each["metadata"].get("ownerReferences") or []
            for owner in owners:
                dependents.setdefault(owner["uid"], []).append(each)
            live = [owner for owner in owners if owner["uid"] in present
                    and FOREGROUND not in (present[owner["uid"]]["metadata"].get("finalizers") or [])]  # fmt: skip
            orphaned = [owner for owner in owners if owner["uid"] in present
                        and ORPHAN in (present[owner["uid"]]["metadata"].get("finalizers") or [])]  # fmt: skip
            kind = self._registry.of_resource(resource)
            if orphaned:
                left = [owner for owner in owners if owner not in orphaned]
                self._put(kind, each, {"ownerReferences": left})
            elif owners and not live:
                self._delete(kind, each)
        for resource, each in every:
            finalizers = each["metadata"].get("finalizers") or []
            kind = self._registry.of_resource(resource)
            if ORPHAN in finalizers:
                self._finish(kind, each, ORPHAN)
            elif FOREGROUND in finalizers and not dependents.get(each["metadata"]["uid"]):
                self._finish(kind, each, FOREGROUND)

    def _delete(self, kind: Served, given: Object) -> None:
        metadata = given["metadata"]
        if "deletionTimestamp" not in metadata:
            self._registry.delete(kind, metadata.get("namespace", ""), metadata["name"], {})

    def _finish(self, kind: Served, given: Object, finalizer: str) -> None:
        """Take a finalizer away; without any left the object goes."""
        self._put(kind, given, {"finalizers": [each for each in given["metadata"]["finalizers"] if each != finalizer]})

    def _put(self, kind: Served, given: Object, metadata: Object) -> None:
        place, name = given["metadata"].get("namespace", ""), given["metadata"]["name"]
        if (present := self._store.get(kind.resource, (place, name))) is None:
            return
        changed = {**present, "metadata": {**present["metadata"], **metadata}}
        self._registry.update(kind, place, name, changed, "controller")
        self.soon()
