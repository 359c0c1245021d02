"""Weights between their holder and this node's disk. Only proven safetensors files pass, in either direction."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from heliograph.bus.blob_store import BlobSource
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_header import check_file
from heliograph.bus.transport import Bus
from heliograph.core.errors import Refused
from heliograph.core.world import World

LEFTOVERS = ("", ".part", ".place")
"""Ends of the names of the files that a fetch makes, also an interrupted one."""


async def fetch_weights(source: BlobSource, ref: WeightsRef, target: Path, world: World) -> Path:
    """Fetch weights from their holder into the file ``target``, which appears when they are proven. Return ``target``.

    An interrupted fetch is resumed. Raise Refused where the blob is no safetensors file of the declared size,
    Unreachable where it cannot be had now, OSError where the disk has no room for it.
    """
    if target.exists():
        try:
            await world.in_thread(check_file, target, ref)
        except Refused:  # release 0.1 laid down any bytes
            target.unlink(missing_ok=True)
        else:
            return target
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if ref.size > free:
        reason = f"weights {ref.digest[:12]} declare {ref.size} bytes; {free} are free"
        raise OSError(errno.ENOSPC, reason, str(target.parent))
    return await source.fetch(ref, target, check_file)


async def store_weights(
    bus: Bus, file: Path, ref: WeightsRef, bucket: str, world: World, *, hashed: bool
) -> WeightsRef:
    """Store a weights file in a bucket. Return the reference to the blob.

    Args:
        hashed: whether this process has written the file, and so knows its digest; otherwise it is computed.

    Raise Refused where the file is no safetensors file of the declared size and digest, and as ``BlobStore.put`` does.
    """
    await world.in_thread(check_file, file, ref, not hashed)
    return await (await bus.blobs(bucket)).put(file, ref)
