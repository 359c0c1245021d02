"""The launcher interface: a node's worker may be a process, a pod or a task of a simulation.

A launcher hands a worker its secret as a file, or directly where the worker is a task of this process; the secret is in
no environment variable. A worker's login to the broker is a file in its own directory; its path is in one. The users of
a launcher see no pipes, process ids, signals or shared directories: it hands over the lines that a worker prints, its
exit, and the files that it has staged.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from heliograph.bus.connection_url import with_credentials
from heliograph.core.errors import HeliographError

BUS = "HELIOGRAPH_BUS"
"""The environment variable with the URL of the broker that a worker connects to."""
LOGIN_FILE = "login.creds"
"""Name of the file with a launch's login in the worker's own directory."""
SECRET_FILE = "HELIOGRAPH_SECRET_FILE"
"""The environment variable with the path at which a worker reads its secret once, as hexadecimal digits: a pipe that it
inherits, or a file that is mounted into its pod."""


class LaunchFailed(HeliographError):
    """The worker could not be started; the message gives the reason."""


@dataclass(frozen=True)
class LaunchRequest:
    """One start of a worker.

    Attributes:
        worker: the worker's name, a DNS label; the same at each start.
        role: role of its task; the launcher chooses the program for it.
        secret: key that signs the worker's events, 32 bytes, another one at each start; behind it the secret of the key
            by which the worker signs for the cloud, if it does.
        environment: variables by which the worker finds its node's broker.
        models: the node's models by digest, as the agent sees them.
        code: directories below which the worker's code lies, as the agent sees them; the worker runs no other code.
        job: name of the worker's job or service.
        working_directory: the directory whose files the worker's script finds by relative names, as the agent sees it;
            None where it runs no script. The worker may write in a directory of its own alone.
        data: the data sets of its task, as the agent sees them.
        login: the launch's login to the broker, as the text of a file; empty where the environment's URL has one.
        pod: identity of the pod that the worker runs in; empty where it is a process.
        waits: called with what the start waits for, and with an empty text once it waits no longer.
    """

    worker: str
    role: str
    secret: bytes
    environment: Mapping[str, str]
    models: Path
    code: tuple[Path, ...] = ()
    job: str = ""
    working_directory: Path | None = None
    data: tuple[Path, ...] = ()
    login: str = field(default="", repr=False)
    pod: str = ""
    waits: Callable[[str], None] = field(default=lambda text: None, repr=False, compare=False)

    def variables(self, directory: str, models: str, code: Iterable[str]) -> dict[str, str]:
        """Return the worker's environment variables, without its secret and its login.

        Args:
            directory: the worker's own directory, as the worker sees it; it stages files under ``staged``.
            models: directory of the node's models, as the worker sees it.
            code: the request's ``code``, as the worker sees it.
        """
        file = Path(directory) / LOGIN_FILE
        bus = {BUS: with_credentials(self.environment[BUS], file)} if self.login else {}
        return {
            **self.environment,
            **bus,
            "HELIOGRAPH_WORKER": self.worker,
            "HELIOGRAPH_DIRECTORY": directory,
            "HELIOGRAPH_MODELS": models,
            "HELIOGRAPH_CODE": json.dumps(list(code)),
        }


class RunningWorker(Protocol):
    """A worker that has been launched."""

    @property
    def lines(self) -> AsyncIterator[str] | None:
        """The lines that the worker prints until it has ended; None where its log goes elsewhere. Read them once."""
        ...

    async def wait(self) -> str:
        """Wait for the end, and describe it: ``exit code 3``, ``signal 11 (segmentation fault)``, ``evicted``."""
        ...

    async def terminate(self) -> None:
        """Ask the worker to end; do nothing where it has ended."""
        ...

    async def kill(self) -> None:
        """End the worker at once; do nothing where it has ended."""
        ...


class WorkerFiles(Protocol):
    """The files that an agent and its workers hand each other."""

    async def staged(self, worker: str, digest: str) -> Path | None:
        """Return a file that the agent can read with the weights of that digest that a worker has staged; None where it
        has staged none. The file outlives the worker."""
        ...

    async def discard(self, worker: str, digest: str) -> None:
        """Delete staged weights, once they are in the cloud."""
        ...

    def sweep(self, wanted: Collection[str]) -> None:
        """Delete fetched files of workers other than these: a killed worker could not delete its own.

        Staged files stay: they may still have to be uploaded.
        """
        ...

    async def hand_login(self, worker: str, text: str) -> None:
        """Replace the login of a worker that runs; a reader never sees half of it. An empty text takes it away.

        Raise OSError where it cannot be written."""
        ...

    def path_for(self, worker: str, path: Path) -> str:
        """Return the path at which a worker finds a file or directory of this node."""
        ...


class Launcher(WorkerFiles, Protocol):
    """Launches the workers of one node."""

    async def launch(self, request: LaunchRequest) -> RunningWorker:
        """Start a worker. Raise LaunchFailed."""
        ...

    async def offers(self) -> bytes:
        """Return the offers of the workers, found where they run: JSON of ``Offer`` in the last line, after lines about
        algorithms that cannot be used. Raise LaunchFailed."""
        ...
