"""The node's log: on its own output, and on the log topic while the link is up."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Literal

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import LogRecord
from heliograph.bus.port import Port
from heliograph.core.errors import HeliographError
from heliograph.core.tasks import Background

Level = Literal["info", "warning"]
MOST_UNDER_WAY = 200
"""Most lines on their way to the cloud; further ones are dropped and counted."""
LONGEST = 65536
"""Most characters of a line; the rest is cut."""


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
        self._agent_said("info", line)

    def warn(self, line: str) -> None:
        self._agent_said("warning", line)

    def worker_said(self, worker: str, level: Level, line: str) -> None:
        """Log a line that a worker printed, or why it ended."""
        self._out(f"[{worker}] {line}")
        self._send(level, "worker", worker, line)

    def _agent_said(self, level: Level, line: str) -> None:
        self._out(f"{level}: {line}")
        self._send(level, "agent", self._edge, line)

    def _send(self, level: Level, component: str, name: str, line: str) -> None:
        if not self._port.bus.link.up:
            return
        if self._under_way >= MOST_UNDER_WAY:  # a script prints faster than the link carries
            self._dropped += 1
            return
        record = LogRecord(
            level=level,
            component=f"{self._edge}/{component}/{name}",
            message=line[:LONGEST],
            time=self._port.world.timestamp(),
            fields={"dropped_before": self._dropped} if self._dropped else {},
        )
        self._dropped = 0
        self._under_way += 1
        self._background.spawn(self._publish(record, component, name))

    async def _publish(self, record: LogRecord, component: str, name: str) -> None:
        try:
            with contextlib.suppress(HeliographError):
                await self._port.publish(topics.LOG, record, self._edge, name, form="json", component=component)
        finally:
            self._under_way -= 1
