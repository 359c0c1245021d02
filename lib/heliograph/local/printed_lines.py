"""The lines that a cluster's workers print, from its log topic: shown as they come, the last ones kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import LOG
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused

MAX_LINES = 60
"""Lines that are kept, to be shown if the job fails."""


class PrintedLines:
    """Follows the workers' lines.

    Args:
        show: called with the name of the edge and each line that one of its training workers prints; None: with none.
    """

    def __init__(self, client: AsyncClient, show: Callable[[str, str], None] | None) -> None:
        self._client = client
        self._show = show
        self._kept: deque[tuple[str, str]] = deque(maxlen=MAX_LINES)
        self.warnings: deque[str] = deque(maxlen=MAX_LINES)
        """What the agents say of their workers' ends, the edge first."""

    async def follow(self) -> None:
        """Take each line, until cancelled; lines may be dropped where a script prints faster than they are read."""
        async with self._client.bus.subscribe(LOG.filter()) as messages:
            async for message in messages:
                try:
                    record = LOG.validate(decode(message.body, message.topic).data, message.topic)
                except Refused:
                    continue
                edge, _, component = record.component.partition("/")
                if component.startswith("worker/"):
                    if record.level == "warning":
                        self.warnings.append(f"{edge}: {record.message}")
                    self._kept.append((record.component, record.message))
                    if self._show is not None:
                        self._show(edge, record.message)

    def of_last_worker(self) -> list[str]:
        """Return the lines of the worker that printed last: when all workers fail, they fail alike."""
        last = self._kept[-1][0] if self._kept else ""
        return [f"{component}: {line}" for component, line in self._kept if component == last]
