"""Transfer weights between the object store and this node's disk; retry while the store cannot be reached."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.transport import Bus
from heliograph.bus.weights_transfer import fetch_weights, store_weights
from heliograph.core.tasks import retry_until_reachable
from heliograph.core.world import World


class ModelFiles:
    """The node's models, each a file named by its digest in ``directory``."""

    def __init__(self, bus: Bus, world: World, directory: Path) -> None:
        self._bus = bus
        self._world = world
        self.directory = directory

    async def get(self, ref: WeightsRef) -> Path | bytes:
        """Return a model as bytes or as a file of this node; fetch a missing file."""
        if ref.inline is not None:
            return ref.inline
        return await self.fetch(ref, self.directory / ref.digest)

    async def fetch(self, ref: WeightsRef, target: Path) -> Path:
        """Fetch weights from their bucket into a file. Raise Refused where they are no safetensors file."""

        async def fetch() -> Path:
            return await fetch_weights(await self._bus.blobs(ref.bucket or MODELS), ref, target, self._world)

        return await retry_until_reachable(fetch, self._world, self._world.say)

    async def put(self, ref: WeightsRef) -> WeightsRef:
        """Store a model of the directory, so that any node can fetch it; return an inline one unchanged."""
        if ref.inline is not None:
            return ref
        return await retry_until_reachable(partial(self._put, ref), self._world, self._world.say)

    async def _put(self, ref: WeightsRef) -> WeightsRef:
        file = self.directory / ref.digest
        return await store_weights(self._bus, file, ref, MODELS, self._world, hashed=True)
