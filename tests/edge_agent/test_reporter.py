"""The reported state is published when it has changed, not too often, more seldom still while only faults are counted,
and not over another agent's report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import Generation, Offer, Report
from heliograph.core.tasks import Flag, cancel_and_wait
from heliograph.edge_agent.report_pace import LONGEST, NEWS
from heliograph.edge_agent.reporter import REPORT_EVERY, Reporter

EDGE = "edge-1"


class Reporting:
    def __init__(self, node: Any) -> None:
        self.node = node
        self.waiting = 0
        self.refused = 0
        self.known = 0
        self.offers: Offer | None = None
        self.alone = Flag()
        self.alone.set()
        self.reporter = Reporter(node.cloud, EDGE, self.alone, self._report, lambda: self.offers, self._known,
                                 node.logged.append)  # fmt: skip
        self._heard = node.heard(node.cloud_broker, topics.REPORT.at(edge=EDGE))
        self._offered = node.heard(node.cloud_broker, topics.OFFERS.at(edge=EDGE))

    @property
    def published(self) -> list[int]:
        return [decode(each.body).data["waiting_events"] for each in self._heard]

    @property
    def offered(self) -> list[dict[str, str]]:
        return [decode(each.body).data["frameworks"] for each in self._offered]

    @property
    def counted(self) -> list[int]:
        return [decode(each.body).data["refused_events"] for each in self._heard]

    def refuse(self, news: bool = False) -> None:
        self.refused += 1
        self.reporter.counted(news)

    def change(self) -> None:
        self.waiting += 1
        self.reporter.due()

    def _report(self) -> Report:
        return Report(edge=EDGE, observed=Generation(), waiting_events=self.waiting, refused_events=self.refused)

    def _known(self) -> None:
        self.known += 1


def _reporting(on_node: Any, test: Callable[[Reporting], Any]) -> None:
    async def main(node: Any) -> None:
        it = Reporting(node)
        running = node.start(it.reporter.run())
        await test(it)
        await cancel_and_wait(running)

    on_node(main)


def test_a_report_is_published_where_it_differs_from_the_last(on_node: Any) -> None:
    async def test(it: Reporting) -> None:
        await asyncio.sleep(10)
        assert it.published == []
        it.change()
        await asyncio.sleep(1)
        it.reporter.due()
        await asyncio.sleep(1)
        assert it.published == [1]
        it.change()
        await asyncio.sleep(1)
        assert (it.published, it.known) == ([1, 2], 1)

    _reporting(on_node, test)


def test_many_changes_are_one_report_and_the_last_is_among_them(on_node: Any) -> None:
    async def test(it: Reporting) -> None:
        for _ in range(100):
            it.change()
            await asyncio.sleep(REPORT_EVERY / 10)
        await asyncio.sleep(2 * REPORT_EVERY)
        assert it.published[-1] == 100
        assert len(it.published) < 15

    _reporting(on_node, test)


def test_it_waits_for_the_link_and_then_publishes_the_present_state(on_node: Any) -> None:
    async def test(it: Reporting) -> None:
        it.node.cloud.bus.lost()
        it.change()
        await asyncio.sleep(10)
        it.change()
        assert (it.published, it.known) == ([], 0)
        it.node.cloud.bus.connect()
        await asyncio.sleep(1)
        assert (it.published[-1], it.known) == (2, 1)

    _reporting(on_node, test)


def test_another_agents_report_is_not_overwritten(on_node: Any) -> None:
    async def test(it: Reporting) -> None:
        it.alone.clear()
        it.change()
        await asyncio.sleep(10)
        assert it.published == []
        it.alone.set()
        await asyncio.sleep(1)
        assert it.published == [1]

    _reporting(on_node, test)


def test_a_report_that_cannot_be_published_is_tried_again(on_node: Any) -> None:
    async def test(it: Reporting) -> None:
        it.node.links["memory://cloud"].reset()  # while the first report is on its way
        it.change()
        await asyncio.sleep(30)
        assert it.published[-1] == 1

    _reporting(on_node, test)


def test_an_unchanged_report_is_published_again_after_the_link_came_back(on_node: Any) -> None:
    """A cloud that was rebuilt meanwhile does not have it."""

    async def test(it: Reporting) -> None:
        it.change()
        await asyncio.sleep(1)
        it.reporter.may_be_lost()
        await asyncio.sleep(1)
        it.reporter.due()
        await asyncio.sleep(1)
        assert (it.published, it.known) == ([1, 1], 1)

    _reporting(on_node, test)


async def _known_and_refusing(it: Reporting, seconds: int) -> None:
    it.change()
    await asyncio.sleep(1)
    for _ in range(seconds):
        it.refuse()
        await asyncio.sleep(1)


def test_a_day_of_one_fault_a_second_is_300_reports_and_the_last_count_is_exact(on_node: Any) -> None:
    async def test(it: Reporting) -> None:
        await _known_and_refusing(it, 86_400)
        await asyncio.sleep(LONGEST)
        assert it.counted[-1] == 86_400
        assert len(it.counted) <= 300

    _reporting(on_node, test)


def test_news_of_a_fault_are_reported_at_once(on_node: Any) -> None:
    async def test(it: Reporting) -> None:
        await _known_and_refusing(it, 3600)
        before = len(it.counted)
        it.refuse()
        await asyncio.sleep(1)
        assert len(it.counted) == before
        it.refuse(news=True)
        await asyncio.sleep(1)
        assert it.counted[before:] == [3602]
        for _ in range(1000):  # a client that has a new topic for each message
            it.refuse(news=True)
            await asyncio.sleep(1)
        assert len(it.counted) - before < NEWS + 10
        await asyncio.sleep(LONGEST)
        assert it.counted[-1] == 4602

    _reporting(on_node, test)


def test_counts_are_in_a_report_that_has_another_reason(on_node: Any) -> None:
    async def test(it: Reporting) -> None:
        await _known_and_refusing(it, 3600)
        it.refuse()
        it.reporter.due()  # by itself this is no reason
        await asyncio.sleep(1)
        assert it.counted[-1] < 3601
        it.change()
        await asyncio.sleep(1)
        assert (it.counted[-1], it.published[-1]) == (3601, 2)

    _reporting(on_node, test)


def test_counts_of_a_time_without_the_link_are_reported_when_it_is_back(on_node: Any) -> None:
    async def test(it: Reporting) -> None:
        await _known_and_refusing(it, 10)
        it.node.cloud.bus.lost()
        for _ in range(1000):
            it.refuse()
            await asyncio.sleep(1)
        it.node.cloud.bus.connect()
        it.reporter.may_be_lost()
        await asyncio.sleep(1)
        assert it.counted[-1] == 1010

    _reporting(on_node, test)


def test_offers_are_published_where_they_have_changed_and_not_with_each_report(on_node: Any) -> None:
    async def test(it: Reporting) -> None:
        it.change()
        await asyncio.sleep(1)
        assert it.offered == []
        it.offers = Offer(frameworks={"numpy": "2.0"})
        for _ in range(100):
            it.change()
            await asyncio.sleep(1)
        assert it.offered == [{"numpy": "2.0"}]
        it.offers = Offer(frameworks={"numpy": "2.1"})
        it.reporter.due()
        await asyncio.sleep(1)
        it.offers = Offer()
        it.reporter.due()
        await asyncio.sleep(1)
        assert (it.offered[1:], len(it.published)) == ([{"numpy": "2.1"}, {}], 101)

    _reporting(on_node, test)


def test_offers_are_published_again_after_the_link_came_back(on_node: Any) -> None:
    async def test(it: Reporting) -> None:
        it.offers = Offer(frameworks={"numpy": "2.0"})
        it.node.cloud.bus.lost()
        it.change()
        await asyncio.sleep(10)
        assert it.offered == []
        it.node.cloud.bus.connect()
        await asyncio.sleep(1)
        it.reporter.may_be_lost()
        await asyncio.sleep(1)
        assert it.offered == [{"numpy": "2.0"}] * 2

    _reporting(on_node, test)
