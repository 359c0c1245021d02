"""The node's models: files named by their digest, fetched as soon as a task or a closed round names them, proven to be
safetensors, and deleted once neither names them."""

from __future__ import annotations

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_header import check_file
from heliograph.bus.weights_transfer import LEFTOVERS, fetch_weights
from heliograph.edge_agent.blob_cache import BlobCache


class ModelStore(BlobCache):
    """Models on this node's disk. The files of the aggregation worker lie there too: it deletes its own."""

    what = "model"

    async def _bring(self, ref: WeightsRef) -> None:
        await fetch_weights(self._cloud, ref, self.path(ref), self._world)

    def _check(self, ref: WeightsRef) -> None:
        check_file(self.path(ref), ref, True)

    def _delete(self, digest: str) -> None:
        for end_of_name in LEFTOVERS:
            (self.directory / f"{digest}{end_of_name}").unlink(missing_ok=True)
