"""Publish the reported state of this edge: soon after it has changed, ever more seldom while it only counts faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Offer, Payload, Report
from heliograph.bus.contract.topics import Topic
from heliograph.bus.port import Port
from heliograph.core.errors import HeliographError
from heliograph.core.failures import Failures
from heliograph.core.tasks import Flag, wait_for
from heliograph.edge_agent.report_pace import CountPace

P = TypeVar("P", bound=Payload)
REPORT_EVERY = 0.2
"""Seconds between two reports, at least."""
COUNTS = ("refused_events", "anomalous_events", "unplaced_events")
"""Fields that alone make no report due at once."""


class Reporter:
    """Publishes reports.

    Args:
        alone: set once no other agent of this name has been found: its report must not be overwritten.
        report: returns the present state.
        offers: returns what the workers can run; None while that is not known. It is published beside the report, and
            only where it has changed: it is many times as large.
        known: called when the cloud has the first report of this agent.
        warn: called with a line about a report that could not be published.
    """

    def __init__(
        self,
        cloud: Port,
        edge: str,
        alone: Flag,
        report: Callable[[], Report],
        offers: Callable[[], Offer | None],
        known: Callable[[], None],
        warn: Callable[[str], None],
    ) -> None:
        self._cloud = cloud
        self._edge = edge
        self._alone = alone
        self._report = report
        self._offers = offers
        self._known = known
        self._warn = warn
        self._failures = Failures(warn)
        self._pace = CountPace()
        self._woken = Flag()
        self._due = False
        self._counted = False
        self._news = False
        self._may_be_lost = False
        self._published: Report | None = None
        self._published_offers: Offer | None = None
        self._warned = ""

    def due(self) -> None:
        """Let ``run`` publish the report if it has changed; call this whenever it may have."""
        self._due = True
        self._woken.set()

    def counted(self, news: bool = False) -> None:
        """Let ``run`` publish the report in time: one of ``COUNTS`` has grown.

        Args:
            news: whether by a new kind of fault, or a new device's.
        """
        if news and not self._news and self._pace.admits_news(self._cloud.world.monotonic()):
            self._news = True
            self.due()
        elif not self._counted:
            self._counted = True
            self._woken.set()

    def may_be_lost(self) -> None:
        """Let ``run`` publish report and offers also where they have not changed: a cloud that was rebuilt or restored
        while the link was down does not have them."""
        self._may_be_lost = True
        self.due()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._wait_until_due()
            news, anew = self._news, self._may_be_lost
            self._due = self._news = self._counted = self._may_be_lost = False
            try:
                await self._publish_report(news, anew)
                await self._publish_offers(anew)
            except HeliographError as error:
                if str(error) != self._warned:
                    self._warned = str(error)
                    self._warn(f"report: {self._warned}")
                self.may_be_lost()
            except Exception as error:  # the next change of the state may mend it
                self._failures.add(f"report of edge {self._edge}", error)
            await self._cloud.world.sleep(REPORT_EVERY)

    async def _wait_until_due(self) -> None:
        while not self._due:
            self._woken.clear()
            if not self._counted:
                await self._woken.wait()
            elif (left := self._pace.due_at - self._cloud.world.monotonic()) > 0:
                await wait_for(self._woken, left)
            else:
                return

    async def _publish_report(self, news: bool, anew: bool) -> None:
        report, before = self._report(), self._published
        if before is not None and not news and not anew and self._is_early(report, before):
            self._counted = report != before
        elif report != before or anew:
            await self._publish(topics.REPORT, report)
            self._published = report
            if before is None:
                self._known()
            elif _counts_of(report) != _counts_of(before):
                self._pace.told(self._cloud.world.monotonic())

    async def _publish_offers(self, anew: bool) -> None:
        offers = self._offers()
        if offers is not None and (offers != self._published_offers or anew):
            await self._publish(topics.OFFERS, offers)
            self._published_offers = offers

    async def _publish(self, topic: Topic[P], payload: P) -> None:
        await self._cloud.bus.link.wait_up()
        await self._alone.wait()
        await self._cloud.publish(topic, payload, edge=self._edge)
        self._warned = ""

    def _is_early(self, report: Report, published: Report) -> bool:
        """Return whether only counts have changed, and it is not their time yet."""
        counts = dict(zip(COUNTS, _counts_of(published), strict=True))
        return self._cloud.world.monotonic() < self._pace.due_at and report.model_copy(update=counts) == published


def _counts_of(report: Report) -> tuple[int, ...]:
    return tuple(getattr(report, each) for each in COUNTS)
