"""How the brokers of a local cluster share a disk: by itself each nats-server would set 75 % of what is free aside."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from heliograph.core.errors import HeliographError

MB = 1_000_000
PART = 0.75
"""Part of the free disk that brokers may fill; the rest is left for models, journals, logs and everything else."""
CLOUD_LEAST = 64 * MB
NODE_LEAST = 8 * MB
"""Bytes that the broker of an edge's node needs: the smallest bounds of what its devices may make it keep."""
NODE_MOST = 512 * MB
"""Bytes that it takes at most: enough for the bounds that are declared."""


@dataclass(frozen=True)
class Shares:
    """Bytes that the cloud's broker and that of each node may store."""

    cloud: int
    node: int


def shares(free: int, nodes: int) -> Shares:
    """Share ``free`` bytes of a disk, ``needed(nodes)`` at least, among the brokers of cloud and nodes.
    Half of it at most is the nodes' where they need no more."""
    room = int(free * PART)
    node = min(NODE_MOST, max(NODE_LEAST, min(room // 2, room - CLOUD_LEAST) // nodes)) if nodes else 0
    return Shares(room - nodes * node, node)


def needed(nodes: int) -> int:
    """Return the free bytes that a cluster with so many nodes' brokers needs to start."""
    return math.ceil((CLOUD_LEAST + nodes * NODE_LEAST) / PART)


def measure(directory: Path, nodes: int) -> Shares:
    """Share the disk of a cluster's directory; what its brokers have stored already counts as theirs.

    Raise HeliographError with the number of bytes that are missing where the disk has too few.
    """
    stores = [directory / "broker" / "store", *directory.glob("*/broker/store")]
    stored = sum(file.stat().st_size for store in stores for file in store.rglob("*") if file.is_file())
    free = shutil.disk_usage(directory).free + stored
    if free < needed(nodes):
        raise HeliographError(
            f"the disk of {directory} has {free // MB} MB free, and a cluster of {nodes} edges needs "
            f"{-(-needed(nodes) // MB)} MB. Make room, or let another disk hold it: TMPDIR=DIR in the environment, or "
            "'heliograph up --state DIR'"
        )
    return shares(free, nodes)
