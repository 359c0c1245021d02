"""The processes of a worker's script: its main process alone takes part in rounds. A child process of it, forked or
started anew, knows the data set and the parameters, and is refused a loop over rounds instead of hanging in it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.bus.contract.resources.base import Scalar
from heliograph.core.errors import Refused
from heliograph.core.private_files import write_private

if TYPE_CHECKING:
    from heliograph.session import LearnSession, PairSession, Session

_DESCRIPTION, _REFUSED = "script.json", "child-was-refused"
_DIRECTORY = "HELIOGRAPH_DIRECTORY"
"""Environment variable of a worker, which its children inherit."""


@dataclass(frozen=True)
class Parent:
    """What a child process knows of its script."""

    edge: str
    dataset: Path | None
    parameters: dict[str, Scalar]


def describe(session: Session | LearnSession | PairSession, directory: Path) -> None:
    """Leave a description of the script for its child processes in the worker's own directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _REFUSED).unlink(missing_ok=True)
    dataset = str(session.dataset) if session.dataset is not None else None
    described = {"pid": os.getpid(), "edge": session.edge, "dataset": dataset, "parameters": session.parameters}
    write_private(directory / _DESCRIPTION, json.dumps(described))


def parent() -> Parent | None:
    """Return what is known of the script whose child this process is; None where it is no such child."""
    return _parent(os.getpid())


@cache
def _parent(pid: int) -> Parent | None:
    directory = os.environ.get(_DIRECTORY)
    if not directory:
        return None
    try:
        described = json.loads((Path(directory) / _DESCRIPTION).read_bytes())
    except (OSError, ValueError):
        return None
    if described["pid"] == pid:
        return None
    dataset = described["dataset"]
    return Parent(described["edge"], Path(dataset) if dataset is not None else None, described["parameters"])


def refusal(directory: Path | None = None) -> Refused:
    """Return the refusal of a loop over rounds in this child process, and leave word of it for the worker."""
    directory = directory or Path(os.environ[_DIRECTORY])
    write_private(directory / _REFUSED, str(os.getpid()))
    return Refused("child-process", field="rounds", expected="the loop over rounds() in the script's main process",
                   got="a child process of it",
                   hint="Loop in the script itself, and start child processes in the loop's body: for r in "
                   "fl.rounds(): start(train, ...).",
                   )  # fmt: skip


def a_child_was_refused(directory: Path) -> bool:
    """Return whether a child process was refused a loop since the script began."""
    return (directory / _REFUSED).exists()
