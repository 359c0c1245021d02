"""The versions of models: results become versions, and their weights go where every agent can fetch them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.resources import Metadata, Model, ModelVersion, WeightsRef
from heliograph.bus.contract.weights_header import check_inline
from heliograph.bus.transport import Bus
from heliograph.coordinator.resource_store import ResourceStore


class ModelVersions:
    """Adds versions to models.

    Args:
        lock: returns the lock of the resource of that plural and name.
        save: stores a model and shows its status.
    """

    def __init__(
        self,
        bus: Bus,
        store: ResourceStore,
        lock: Callable[[str, str], asyncio.Lock],
        save: Callable[[Model], Awaitable[None]],
    ) -> None:
        self._bus = bus
        self._store = store
        self._lock = lock
        self._save = save

    async def add(self, model: str, version: ModelVersion) -> None:
        """Append a version to a model, numbered after its newest. Create a missing model. Skip a second version of one
        job: an earlier coordinator has added it before it ended."""
        weights = await self.in_bucket(version.weights)
        async with self._lock(Model.plural, model):  # two jobs that train one model may end at once
            known = self._store.get(Model, model) or Model(metadata=Metadata(name=model))
            versions = known.status.versions
            if any(each.job == version.job for each in versions):
                return
            numbered = version.model_copy(update={"version": len(versions) + 1, "weights": weights})
            status = known.status.model_copy(update={"versions": [*versions, numbered]})
            await self._save(known.model_copy(update={"status": status}))

    async def in_bucket(self, weights: WeightsRef) -> WeightsRef:
        """Put weights that travel inline into the object store, and return the reference to them.

        Raise Refused where they are no safetensors file of their digest.
        """
        if weights.inline is None:
            return weights
        check_inline(weights)
        with TemporaryDirectory() as directory:
            file = Path(directory) / weights.digest
            file.write_bytes(weights.inline)
            return await (await self._bus.blobs(MODELS)).put(file, weights)

    def digests(self) -> set[str]:
        """Return the digests of all models' weights: every version's, and declared ones."""
        models = self._store.all(Model)
        found = {version.weights.digest for model in models for version in model.status.versions}
        return found | {model.spec.weights.digest for model in models if model.spec.weights is not None}
