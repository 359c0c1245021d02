"""Finding the cluster: a given URL or file, ``HELIOGRAPH_SERVER``, or the cluster that ``heliograph up`` started."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heliograph.bus.connection_url import SCHEMES, TLS, TLS_FILES, ConnectionUrl, with_credentials
from heliograph.core.errors import Refused, Unreachable

VARIABLE = "HELIOGRAPH_SERVER"
IDENTITY = "identity"
"""Directory of an agent's state with the edge's login."""


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
    """Return the file in which ``heliograph up`` writes its cluster's URLs with the operator's login, readable by its
    user alone."""
    return state_home() / "cluster.json"


def identity_directory(edge: str, state: Path | None = None) -> Path:
    """Return the directory with an edge's login, within its agent's state."""
    return (state or state_home() / "agents" / edge).resolve() / IDENTITY


def enrolled_directories() -> list[Path]:
    """Return the directories with the logins of the edges that have enrolled on this machine, but for edges whose
    agents have another ``--state``."""
    return sorted((state_home() / "agents").glob("*/identity"))


def login_directory(user: str) -> Path:
    """Return the directory with the login of a user that has enrolled on this machine."""
    return state_home() / "logins" / user


def users_directory() -> Path:
    """Return the directory in which ``heliograph up`` makes one for each user, readable by its user alone."""
    return state_home() / "users"


def locate(given: str | None = None, field: str = "server") -> Server:
    """Find the cluster.

    Args:
        given: its URL, or a ``cluster.json`` that ``heliograph up`` has written for a user; the variable may name
            either, too. A file keeps the token out of arguments.
        field: name of the argument, for errors.

    Raise Refused if the URL found is no server's, Unreachable that says how to name or start a cluster if none is
    found.
    """
    if given is not None:  # an empty URL is a mistake and must not select another cluster
        return _named(given, field)
    if text := os.environ.get(VARIABLE):
        return _named(text, VARIABLE, VARIABLE)
    file = cluster_file()
    try:
        tree = json.loads(file.read_text())
        if _runs(int(tree["pid"])):
            return Server(check_url(str(tree["server"]), str(file)), str(file))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        pass
    raise _not_found()


def _not_found() -> Unreachable:
    return Unreachable(
        f"no cluster found. Start one with 'heliograph up', or name one: --server nats://HOST:PORT, or {VARIABLE}."
    )


def _named(text: str, field: str, source: str = "") -> Server:
    """Return the server of a URL, or of the file that the text names."""
    if "://" in text or not _is_file(text):
        return Server(check_url(text, field), source)
    try:
        tree = json.loads(Path(text).read_text())
        url = str(tree["server"]) + _files_beside(Path(text), tree).query
        if "credentials" in tree:
            url = with_credentials(url, _beside(Path(text), tree["credentials"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused("invalid", field=field, expected="a cluster.json that 'heliograph up' has written",
                      got=f"{text} ({type(error).__name__})") from None  # fmt: skip
    return Server(check_url(url, field), text)


def _files_beside(file: Path, tree: Mapping[str, object]) -> TLS:
    """Return the TLS files that a user's file names in its own directory, so that one may carry that to another
    machine."""
    return TLS(**{name: _beside(file, tree[name]) for name in TLS_FILES if name in tree})


def _beside(file: Path, name: object) -> Path:
    """Return a file in the same directory. Raise ValueError if the name leads elsewhere."""
    return file.resolve().with_name(str(name))


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, for example
        return False


def _runs(pid: int) -> bool:
    """Return whether a process runs, of whichever user."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def check_url(url: str, field: str, *schemes: str) -> str:
    """Return ``url``. Raise Refused naming ``field``, and no secret, if it is no server's URL, or leads to another
    machine without TLS."""
    ConnectionUrl.parse(url, field, schemes=schemes or SCHEMES).require_protection(field)
    return url
