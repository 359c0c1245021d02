"""One worker of a node over all its starts, as its supervisor keeps it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from heliograph.bus.contract import payloads
from heliograph.core.tasks import Flag
from heliograph.edge_agent.launcher import RunningWorker
from heliograph.edge_agent.reconcile import Running, State

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import WorkerTask

REPEATED = 3
"""Times that a script fails alike in one round before it is started again in the next round only."""


@dataclass
class Worker:
    """One worker over all its starts; ``handle`` is set while it runs.

    Attributes:
        told: set when the process reports a state: its last report may come after its end.
        hurried: set where a worker that is being stopped gets no more time.
        failed: True where this start's script has reported a failure, ``reported``.
        final: True where the script failed in a way that another start does not mend.
        alike: how often the script has reported the same failure, ``last_failure``, in the same round.
        failed_in: the round of the last failure that it reported.
        left_in: the round in which it left its loop; None where it has not.
        code: digest of the code that it was started with last.
        gpus: ids of the GPUs that it was given, at each start.
        waits: what its start waits for, such as its pod; empty while it waits for nothing.
    """

    task: WorkerTask
    secret: bytes
    state: State = "starting"
    assigned: WorkerTask | None = None
    handle: RunningWorker | None = None
    restarts: int = 0
    detail: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    watching: asyncio.Task[None] | None = None
    ended: Flag = field(default_factory=Flag)
    told: Flag = field(default_factory=Flag)
    hurried: Flag = field(default_factory=Flag)
    failed: bool = False
    reported: str = ""
    last_failure: str | None = None
    final: bool = False
    alike: int = 0
    failed_in: int = -1
    left_in: int | None = None
    code: str = ""
    gpus: tuple[str, ...] = ()
    waits: str = ""

    def as_running(self) -> Running:
        ended_in = self.failed_in if self.left_in is None else self.left_in
        return Running(
            self.task.worker, self.task.job_uid, self.state, self.assigned, self.task, ended_in, self.final,
            self.hurried.is_set(), self.gpus,
        )  # fmt: skip

    @property
    def fails_for_good(self) -> bool:
        """Return whether another start in this round does not mend the failure. A service has no rounds and no end: it
        is started again for ever."""
        return self.failed and (self.final or self.alike >= REPEATED) and isinstance(self.task, payloads.DatasetTask)

    def last_words(self) -> str:
        """Return the failure that the script reported, or else its last line."""
        return self.reported or next((line for line in reversed(self.tail) if line.strip()), "no output")

    def note_failure(self, detail: str, final: bool) -> None:
        alike = (detail, self.task.revision) == (self.last_failure, self.failed_in)
        self.alike, self.failed_in = self.alike + 1 if alike else 1, self.task.revision
        self.failed, self.final = True, final
        self.detail = self.reported = self.last_failure = detail

    def begin_again(self, secret: bytes) -> None:
        """Forget what concerns the start before."""
        self.state, self.secret = "starting", secret
        self.detail, self.reported, self.waits, self.failed, self.left_in = "", "", "", False, None
