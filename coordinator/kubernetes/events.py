"""Events of Kubernetes about custom resources: what ``kubectl describe`` prints at the end."""

from __future__ import annotations

import hashlib
from typing import Literal

from heliograph.coordinator.api.token_bucket import Rate, TokenBucket
from heliograph.coordinator.kubernetes.api import EVENTS, Api, Object
from heliograph.coordinator.kubernetes.errors import Ending, Exists
from heliograph.core.errors import HeliographError
from heliograph.core.failures import Failures
from heliograph.core.world import World

RATE = Rate(5, 100)
"""Events in a second in the long run, and at once; further ones are left out: the conditions tell the same."""
MAX_MESSAGE = 1024
_COMPONENT = "heliograph"


class EventRecorder:
    """Records events. One that cannot be recorded is left out."""

    def __init__(self, api: Api, world: World, failures: Failures) -> None:
        self._api = api
        self._world = world
        self._failures = failures
        self._room = TokenBucket(RATE, world.monotonic())

    async def record(self, custom: Object, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Record an event about a custom resource. The same one again, within an hour, changes nothing.

        Args:
            reason: one word in upper camel case.
        """
        if not self._room.take(1, self._world.monotonic()):
            return
        body = self._event(custom, type, reason, message[:MAX_MESSAGE])
        try:
            await self._api.create(EVENTS, custom["metadata"]["namespace"], body)
        except (Exists, Ending):  # the namespace is being removed, and its events with it
            return
        except HeliographError as error:
            self._failures.add(f"an event about {custom['kind']} {custom['metadata']['name']}", error)

    def _event(self, custom: Object, type: str, reason: str, message: str) -> Object:
        metadata, now = custom["metadata"], self._world.timestamp()
        text = "/".join((metadata["uid"], type, reason, message))
        name = f"{metadata['name']}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        second = now.partition(".")[0] + "Z"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": custom["apiVersion"],
                "kind": custom["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "type": type,
            "reason": reason,
            "message": message,
            "source": {"component": _COMPONENT},
            "reportingComponent": _COMPONENT,
            "reportingInstance": _COMPONENT,
            "firstTimestamp": second,
            "lastTimestamp": second,
            "count": 1,
        }
