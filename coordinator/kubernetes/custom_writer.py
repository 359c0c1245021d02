"""Write custom resources: their finalizer, their status, and mirrors of resources that were made elsewhere."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.resources import Condition, Resource
from heliograph.coordinator.kubernetes.api import Api, Kind, Object
from heliograph.coordinator.kubernetes.documents import CLOUD, FINALIZER, mirror_of, shown_status
from heliograph.coordinator.kubernetes.errors import Exists, NotFound
from heliograph.core.world import World


@dataclass
class _Written:
    """What was written last under one key.

    Attributes:
        uid: the custom resource's.
        status: the status, as it was sent: an API server leaves out what the definition does not know.
        at: when.
        generation: the mirror's generation then.
        mirror: what was written of the mirror, as JSON.
    """

    uid: str
    status: str = ""
    at: float = -1e9
    generation: int = -1
    mirror: str = ""


class CustomWriter:
    """Writes custom resources, and only what differs from what it wrote last."""

    def __init__(self, api: Api, world: World, cloud: str) -> None:
        self._api = api
        self._world = world
        self._cloud = cloud
        self._written: dict[Hashable, _Written] = {}

    def pause(self, key: Hashable, least: float) -> float:
        """Return the seconds until a status may be written again."""
        written = self._written.get(key)
        return max(0.0, written.at + least - self._world.monotonic()) if written is not None else 0.0

    def forget(self, key: Hashable) -> None:
        self._written.pop(key, None)

    async def adopt(self, kind: Kind, custom: Object) -> Object:
        """Return a custom resource that has the finalizer and names this cloud. Raise Stale where it has changed."""
        metadata = custom["metadata"]
        named = metadata.get("annotations", {}).get(CLOUD) == self._cloud
        finalizers = metadata.get("finalizers", [])
        if named and FINALIZER in finalizers:
            return custom
        change: dict[str, Any] = {"resourceVersion": metadata["resourceVersion"], "annotations": {CLOUD: self._cloud}}
        if FINALIZER not in finalizers:
            change["finalizers"] = [*finalizers, FINALIZER]
        return await self._api.patch(kind, metadata["namespace"], metadata["name"], {"metadata": change})

    async def release(self, kind: Kind, custom: Object) -> None:
        """Take the finalizer away, so that Kubernetes deletes the custom resource. Raise Stale where it has changed."""
        metadata = custom["metadata"]
        left = [each for each in metadata.get("finalizers", []) if each != FINALIZER]
        change = {"resourceVersion": metadata["resourceVersion"], "finalizers": left}
        try:
            await self._api.patch(kind, metadata["namespace"], metadata["name"], {"metadata": change})
        except NotFound:
            return

    async def tell(
        self, key: Hashable, kind: Kind, custom: Object, resource: Resource | None, extra: Condition, generation: int
    ) -> dict[str, Any] | None:
        """Write the status, and return it; None where nothing has changed. Raise Stale where the custom resource has
        changed."""
        written = self._of(key, custom)
        extra = extra.model_copy(update={"last_transition_time": self._world.timestamp()})
        status = shown_status(declared().kinds[kind.kind], resource, extra, generation, custom.get("status", {}))
        text = json.dumps(status, sort_keys=True)
        if text == written.status or status == custom.get("status"):
            written.status = text
            return None
        try:
            await self._api.replace_status(kind, custom["metadata"]["namespace"], {**custom, "status": status})
        except NotFound:
            return None
        written.status, written.at = text, self._world.monotonic()
        return status

    async def show(self, key: Hashable, kind: Kind, custom: Object | None, resource: Resource) -> bool:
        """Write a mirror with its status. Return whether somebody had changed its spec. A namespace that is not there
        shows nothing."""
        namespace = str(getattr(key, "namespace", ""))
        restored = False
        wanted = mirror_of(resource, namespace, self._cloud)
        text = json.dumps(wanted, sort_keys=True)
        try:
            if custom is None:
                custom = await self._api.create(kind, namespace, wanted)
            elif (written := self._of(key, custom)).mirror != text or _differs(custom, written.generation, wanted):
                restored = written.mirror == text
                wanted["metadata"]["resourceVersion"] = custom["metadata"]["resourceVersion"]
                custom = await self._api.replace(kind, namespace, wanted)
            written = self._of(key, custom)
            written.generation, written.mirror = custom["metadata"].get("generation", 0), text
        except (NotFound, Exists):
            return False
        shown = Condition(type="Mirrored", status="True", reason="MadeByTopics",
                          message="Change it by topics: 'heliograph apply'. Changes here are undone.")  # fmt: skip
        await self.tell(key, kind, custom, resource, shown, custom["metadata"].get("generation", 0))
        return restored

    async def remove(self, kind: Kind, custom: Object) -> None:
        """Delete a mirror of what is gone."""
        metadata = custom["metadata"]
        try:
            await self._api.delete(kind, metadata["namespace"], metadata["name"], uid=metadata["uid"])
        except NotFound:
            return

    def _of(self, key: Hashable, custom: Object) -> _Written:
        uid = custom["metadata"]["uid"]
        found = self._written.get(key)
        if found is None or found.uid != uid:
            found = self._written[key] = _Written(uid)
        return found


def _differs(custom: Object, generation: int, wanted: Object) -> bool:
    """Return whether somebody has changed a mirror since it had a generation: spec, or labels, which count none."""
    metadata = custom["metadata"]
    return bool(
        metadata.get("generation", 0) != generation or metadata.get("labels", {}) != wanted["metadata"]["labels"]
    )
