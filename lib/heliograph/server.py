"""Finding the cluster: a given URL, ``HELIOGRAPH_SERVER``, or the cluster that ``heliograph up`` started."""

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
    """The URL of a cluster, and the variable or file that named it; empty if the caller gave the URL."""

    url: str
    source: str = ""

    @property
    def shown(self) -> str:
        """The URL without credentials, with its source, for logs and errors."""
        return ConnectionUrl.parse(self.url).shown + (f" (from {self.source})" if self.source else "")


def state_home() -> Path:
    """Return this user's directory for state that outlives a process."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "heliograph"


def cluster_file() -> Path:
    """Return the file in which ``heliograph up`` writes its cluster's URL, readable by its user alone."""
    return state_home() / "cluster.json"


def locate(given: str | None = None) -> Server:
    """Find the cluster.

    Raise Refused if the URL found is no server's, HeliographError that says how to name or start a cluster if none is
    found.
    """
    if given is not None:  # an empty URL is a mistake and must not select another cluster
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
    """Return ``url``. Raise Refused naming ``field``, and no secret, if it is no server's URL."""
    ConnectionUrl.parse(url, field, schemes=schemes or SCHEMES)
    return url
