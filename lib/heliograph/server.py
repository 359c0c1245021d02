"""Finding the cluster: what was given, ``HELIOGRAPH_SERVER``, or the one that ``heliograph up`` started."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from heliograph.bus.connection_url import SCHEMES, ConnectionUrl
from heliograph.core.errors import HeliographError

VARIABLE = "HELIOGRAPH_SERVER"


@dataclass(frozen=True)
class Server:
    """The URL of a cluster, and where it was found: empty where the caller gave it."""

    url: str
    source: str = ""

    @property
    def shown(self) -> str:
        """Fit for a log or an error: without credentials, with its source."""
        return ConnectionUrl.parse(self.url).shown + (f" (from {self.source})" if self.source else "")


def state_home() -> Path:
    """Where Heliograph keeps what outlives a process, for this user."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "heliograph"


def cluster_file() -> Path:
    """Where ``heliograph up`` writes the addresses of its cluster, readable by its user alone."""
    return state_home() / "cluster.json"


def locate(given: str | None = None) -> Server:
    """The cluster to talk to. Raises Refused where what names it is no URL of a server, HeliographError saying how to
    name or start one where nothing does."""
    if given is not None:  # an empty one is a mistake, and must not lead to some other cluster
        return Server(check_url(given, "server"))
    if url := os.environ.get(VARIABLE):
        return Server(check_url(url, VARIABLE), VARIABLE)
    file = cluster_file()
    try:
        tree = json.loads(file.read_text())
        os.kill(int(tree["pid"]), 0)
        return Server(check_url(str(tree["server"]), str(file)), str(file))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        raise HeliographError(
            f"no cluster found. Start one with 'heliograph up', or name one: --server nats://HOST:PORT, or {VARIABLE}."
        ) from None


def check_url(url: str, field: str, *schemes: str) -> str:
    """``url`` itself. Raises Refused naming ``field``, and no secret, where no server can be at it."""
    ConnectionUrl.parse(url, field, schemes=schemes or SCHEMES)
    return url
