"""How a node's workers are launched: an interface, so that a worker may be a process, a pod or a task of a simulation.

Whoever uses it sees neither pipes nor process ids, signals or directories that agent and worker share: a launcher hands
over the lines that a worker prints, how it ended, and the files that it has staged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from heliograph.core.errors import HeliographError


class LaunchFailed(HeliographError):
    """The worker could not be started; its message says why."""


@dataclass(frozen=True)
class LaunchRequest:
    """One start of a worker.

    Attributes:
        worker: the worker's name, a DNS label; the same at each start.
        role: the role of its task; the launcher knows what runs for it.
        secret: signs what the worker publishes; another one at each start.
        environment: variables by which the worker finds its node's broker.
        models: the node's models by digest, as the agent sees them.
    """

    worker: str
    role: str
    secret: bytes
    environment: Mapping[str, str]
    models: Path

    def variables(self, directory: str, models: str) -> dict[str, str]:
        """The worker's environment variables.

        Args:
            directory: the worker's own, as the worker sees it; it stages files under ``staged`` there.
            models: the node's models, as the worker sees them.
        """
        return {
            **self.environment,
            "HELIOGRAPH_WORKER": self.worker,
            "HELIOGRAPH_SECRET": self.secret.hex(),
            "HELIOGRAPH_DIRECTORY": directory,
            "HELIOGRAPH_MODELS": models,
        }


class RunningWorker(Protocol):
    """A worker that has been launched."""

    @property
    def lines(self) -> AsyncIterator[str] | None:
        """The lines that it prints, until it has ended; None where its log goes elsewhere. Read once."""
        ...

    async def wait(self) -> str:
        """Return how it ended, once it has: ``exit code 3``, ``evicted``."""
        ...

    async def terminate(self) -> None:
        """Ask it to end; nothing where it has ended."""
        ...

    async def kill(self) -> None:
        """End it; nothing where it has ended."""
        ...


class WorkerFiles(Protocol):
    """The files that an agent and its workers hand each other."""

    async def staged(self, worker: str, digest: str) -> Path | None:
        """Return the weights of that digest that a worker has staged, where the agent can read them; None where the
        worker has staged none. They outlive the worker."""
        ...

    async def discard(self, worker: str, digest: str) -> None:
        """Drop staged weights: they are in the cloud."""
        ...

    def sweep(self, wanted: Collection[str]) -> None:
        """Drop what workers other than these had fetched, where they were killed before they could drop it.

        What they have staged stays: it may still have to be uploaded.
        """
        ...

    def path_for(self, worker: str, path: Path) -> str:
        """Return the path at which a worker finds a file or directory of this node."""
        ...


class Launcher(WorkerFiles, Protocol):
    """Launches the workers of one node."""

    async def launch(self, request: LaunchRequest) -> RunningWorker:
        """Start a worker. Raises LaunchFailed."""
        ...

    async def offers(self) -> bytes:
        """Return what the workers can run, asked of where they run: JSON of ``Offer`` in the last line, and lines
        before it about what cannot be used. Raises LaunchFailed."""
        ...
