"""The id of a cloud: a Kubernetes may hold custom resources of several, and each operator looks after its own."""

from __future__ import annotations

from heliograph.bus.transport import KeyValue
from heliograph.core.errors import Conflict
from heliograph.core.world import World

KEY = "cloud"
"""Key in the bucket ``coordinator``."""


async def cloud_id(kv: KeyValue, world: World) -> str:
    """Return the cloud's id; make one where there is none."""
    while True:
        entry = await kv.get(KEY)
        if entry is not None:
            return entry.value.decode(errors="replace")
        try:
            await kv.put(KEY, world.new_id().encode(), 0)
        except Conflict:
            continue
