"""Finding the cluster: what was given, ``HELIOGRAPH_SERVER``, or the one that ``heliograph up`` started."""

from __future__ import annotations

import json
import os
from pathlib import Path

from heliograph.bus.errors import HeliographError

VARIABLE = "HELIOGRAPH_SERVER"


def state_home() -> Path:
    """Where Heliograph keeps what outlives a process, for this user."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "heliograph"


def cluster_file() -> Path:
    """Where ``heliograph up`` writes the addresses of its cluster, readable by its user alone."""
    return state_home() / "cluster.json"


def find_server(given: str | None = None) -> str:
    """The URL of the cluster. Raises HeliographError saying how to name or start one."""
    if url := given or os.environ.get(VARIABLE):
        return url
    try:
        tree = json.loads(cluster_file().read_text())
        os.kill(int(tree["pid"]), 0)
        return str(tree["server"])
    except (OSError, ValueError, KeyError):
        raise HeliographError(
            f"no cluster found. Start one with 'heliograph up', or name one with --server nats://… or {VARIABLE}."
        ) from None
