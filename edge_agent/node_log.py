"""The node's log: to the agent's own output, and to the log topic while the link is up."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Literal

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import LogRecord
from heliograph.bus.port import Port
from heliograph.core.errors import HeliographError
from heliograph.core.tasks import Background
from heliograph.core.text import encodable

Level = Literal["info", "warning"]
MAX_UNDER_WAY = 200
"""Lines on their way to the cloud, at most; further ones are dropped and counted."""
MAX_LENGTH = 65536
"""Characters of a line, at most; the rest is cut."""


class NodeLog:
    """Logs the lines of agent and workers. Lines may be dropped; events may not."""

    def __init__(self, port: Port, edge: str, background: Background, out: Callable[[str], None]) -> None:
        self._port = port
        self._edge = edge
        self._background = background
        self._out = out
        self._under_way = 0
        self._dropped = 0

    def info(self, line: str) -> None:
        self._log_agent("info", line)

    def warn(self, line: str) -> None:
        self._log_agent("warning", line)

    def log_worker(self, worker: str, level: Level, line: str) -> None:
        """Log a line that a worker printed, or the reason of its end."""
        self._out(f"[{worker}] {line}")
        self._send(level, "worker", worker, line)

    def _log_agent(self, level: Level, line: str) -> None:
        self._out(f"{level}: {line}")
        self._send(level, "agent", self._edge, line)

    def _send(self, level: Level, component: str, name: str, line: str) -> None:
        if not self._port.bus.link.up:
            return
        if self._under_way >= MAX_UNDER_WAY:  # a script prints faster than the link carries
            self._dropped += 1
            return
        record = LogRecord(
            level=level,
            component=f"{self._edge}/{component}/{name}",
            message=encodable(line[:MAX_LENGTH])[:MAX_LENGTH],
            time=self._port.world.timestamp(),
            fields={"dropped_before": self._dropped} if self._dropped else {},
        )
        self._dropped = 0
        self._under_way += 1
        self._background.spawn(self._publish(record, component, name))

    async def _publish(self, record: LogRecord, component: str, name: str) -> None:
        try:
            with contextlib.suppress(HeliographError):
                await self._port.publish(topics.LOG, record, name, form="json", edge=self._edge, component=component)
        finally:
            self._under_way -= 1
