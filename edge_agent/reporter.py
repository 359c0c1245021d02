"""Publish the reported state of this edge, soon after it has changed."""

from __future__ import annotations

from collections.abc import Callable

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Report
from heliograph.bus.port import Port
from heliograph.core.errors import HeliographError
from heliograph.core.failures import Failures
from heliograph.core.tasks import Flag

REPORT_EVERY = 0.2
"""Seconds between two reports, at least."""


class Reporter:
    """Publishes reports.

    Args:
        alone: set once no other agent of this name has been found: its report must not be overwritten.
        report: returns the present state.
        known: called when the cloud has the first report of this agent.
        warn: called with a line about a report that could not be published.
    """

    def __init__(
        self,
        cloud: Port,
        edge: str,
        alone: Flag,
        report: Callable[[], Report],
        known: Callable[[], None],
        warn: Callable[[str], None],
    ) -> None:
        self._cloud = cloud
        self._edge = edge
        self._alone = alone
        self._report = report
        self._known = known
        self._warn = warn
        self._failures = Failures(warn)
        self._due = Flag()
        self._may_be_lost = False

    def due(self) -> None:
        """Let ``run`` publish the report if it has changed; call this whenever it may have."""
        self._due.set()

    def may_be_lost(self) -> None:
        """Let ``run`` publish the report also where it has not changed: a cloud that was rebuilt or restored while the
        link was down does not have it."""
        self._may_be_lost = True
        self._due.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        published: Report | None = None
        warned = ""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                report = self._report()
                if report != published or self._may_be_lost:
                    self._may_be_lost = False
                    await self._cloud.bus.link.wait_up()
                    await self._alone.wait()
                    await self._cloud.publish(topics.REPORT, report, edge=self._edge)
                    if published is None:
                        self._known()
                    published, warned = report, ""
            except HeliographError as error:
                if str(error) != warned:
                    warned = str(error)
                    self._warn(f"report: {warned}")
                self.may_be_lost()
            except Exception as error:  # the next change of the state may mend it
                self._failures.add(f"report of edge {self._edge}", error)
            await self._cloud.world.sleep(REPORT_EVERY)
