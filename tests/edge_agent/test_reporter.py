"""The reported state is published when it has changed, not too often, and not over another agent's report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import Generation, Report
from heliograph.core.tasks import Flag, cancel_and_wait
from heliograph.edge_agent.reporter import REPORT_EVERY, Reporter

EDGE = "edge-1"


class Reporting:
    def __init__(self, node: Any) -> None:
        self.node = node
        self.waiting = 0
        self.known = 0
        self.alone = Flag()
        self.alone.set()
        self.reporter = Reporter(node.cloud, EDGE, self.alone, self._report, self._known, node.logged.append)
        self._heard = node.heard(node.cloud_broker, topics.REPORT.at(edge=EDGE))

    @property
    def published(self) -> list[int]:
        return [decode(each.body).data["waiting_events"] for each in self._heard]

    def change(self) -> None:
        self.waiting += 1
        self.reporter.due()

    def _report(self) -> Report:
        return Report(edge=EDGE, observed=Generation(), waiting_events=self.waiting)

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
