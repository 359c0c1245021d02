"""The site policy of a node: what its operator lets workers reach. A TOML file, read when the agent starts.

    [workers]
    files = "own"        # its own directory, code, model and data; or "machine": all that the agent's user may
    network = "node"     # the node's broker alone; or "full"
    read = ["/mnt/maps"]          # further files and directories, with "own"
    write = ["/dev/video0"]
    private = ["/code/keys"]      # never, although it lies below code or data
    processes = 1024     # of one worker, threads counted
    cpu-percent = 0      # of one core, for one worker; 0 for no bound
    keep-free-mb = 1024  # free disk that a worker must leave
    projects = ["north"] # whose work may run here; without it that of all
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

from heliograph.core.errors import Refused, shorten
from heliograph.core.names import LABEL_RULE, is_label
from heliograph.core.toml_file import read_toml

MOST = 1 << 20
_SECTION = "workers"


@dataclass(frozen=True)
class SitePolicy:
    """What workers of this node may reach.

    Attributes:
        read, write: further files and directories, each absolute; only where ``files`` is ``own``.
        private: files and directories that no worker may open, although they lie below its code or data; likewise.
        processes: processes and threads of one worker, at most.
        cpu_percent: CPU of one worker, in hundredths of a core, where the agent has cgroups; 0 for no bound.
        keep_free_mb: free disk below which the worker that has written the most is ended.
        projects: those whose jobs and services may run here; empty for all.
    """

    files: Literal["own", "machine"] = "own"
    network: Literal["node", "full"] = "node"
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    private: tuple[Path, ...] = ()
    processes: int = 1024
    cpu_percent: int = 0
    keep_free_mb: int = 1024
    projects: tuple[str, ...] = ()


CONFINED = SitePolicy()
OPEN = SitePolicy(files="machine", network="full")
"""The policy for a user's own scripts on the user's own machine."""


def read_site_policy(path: Path) -> SitePolicy:
    """Return the policy of a file. Raise Refused with the field where it is none."""
    return _parsed(read_toml(path, "a file with the site policy"), str(path))


def written(policy: SitePolicy) -> str:
    """Return the policy as the text of such a file."""
    lines = [f"[{_SECTION}]"]
    for each in fields(policy):
        value = getattr(policy, each.name)
        # a string of JSON is one of TOML
        text = json.dumps([*map(str, value)] if isinstance(value, tuple) else value)
        lines.append(f"{each.name.replace('_', '-')} = {text}")
    return "\n".join([*lines, ""])


def _parsed(document: Mapping[str, Any], place: str) -> SitePolicy:
    for section in document:
        if section != _SECTION:
            raise Refused("invalid", topic=place, field=section, expected=f"the section {_SECTION} alone", got=section)
    given = document.get(_SECTION, {})
    if not isinstance(given, dict):
        raise Refused("invalid", topic=place, field=_SECTION, expected=f"a section, [{_SECTION}]", got=given)
    known = {each.name.replace("_", "-"): each.name for each in fields(SitePolicy)}
    found: dict[str, Any] = {}
    for key, value in given.items():
        field = f"{_SECTION}.{key}"
        if key not in known:
            raise Refused("invalid", topic=place, field=field, expected=f"one of {', '.join(known)}", got=key)
        expected, parse = _FORMS[known[key]]
        if (parsed := parse(value)) is None:
            raise Refused("invalid", topic=place, field=field, expected=expected, got=shorten(value))
        found[known[key]] = parsed
    return SitePolicy(**found)


def _one_of(*words: str) -> tuple[str, Callable[[Any], Any]]:
    return " or ".join(words), lambda value: value if value in words and isinstance(value, str) else None


def _paths(value: Any) -> tuple[Path, ...] | None:
    good = isinstance(value, list) and all(
        isinstance(each, str) and each.startswith("/") and "\0" not in each and ".." not in Path(each).parts
        for each in value
    )  # fmt: skip
    return tuple(map(Path, cast(list[str], value))) if good else None


def _labels(value: Any) -> tuple[str, ...] | None:
    good = isinstance(value, list) and all(isinstance(each, str) and is_label(each) for each in value)
    return tuple(cast(list[str], value)) if good else None


def _number(least: int) -> tuple[str, Callable[[Any], Any]]:
    def parse(value: Any) -> int | None:
        return value if isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST else None

    return f"a number from {least} to {MOST}", parse


_FORMS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "files": _one_of("own", "machine"),
    "network": _one_of("node", "full"),
    "read": ("a list of absolute paths", _paths),
    "write": ("a list of absolute paths", _paths),
    "private": ("a list of absolute paths", _paths),
    "processes": _number(8),
    "cpu_percent": _number(0),
    "keep_free_mb": _number(0),
    "projects": (f"a list of projects, each {LABEL_RULE}", _labels),
}
