"""The node's log: always to its own output, and to the cloud while the link is up."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.edge_agent.node_log import MAX_LENGTH, MAX_UNDER_WAY, NodeLog

EDGE = "edge-1"


async def _log(node: Any, out: list[str]) -> NodeLog:
    return NodeLog(node.cloud, EDGE, node.background, out.append)


def test_lines_go_to_the_output_and_to_the_cloud_with_their_source(on_node: Any) -> None:
    async def test(node: Any) -> None:
        out: list[str] = []
        heard = node.heard(node.cloud_broker, "edge/+/up/log/#")
        log = await _log(node, out)
        log.info("link is up")
        log.warn("disk is full")
        log.log_worker("job-worker", "info", "epoch 1")
        await node.settled()
        assert out == ["info: link is up", "warning: disk is full", "[job-worker] epoch 1"]
        logged = [(topics.LOG.validate(decode(each.body).data, each.topic), each) for each in heard]
        assert [(record.level, record.component, record.message) for record, _ in logged] == [
            ("info", f"{EDGE}/agent/{EDGE}", "link is up"),
            ("warning", f"{EDGE}/agent/{EDGE}", "disk is full"),
            ("info", f"{EDGE}/worker/job-worker", "epoch 1"),
        ]
        assert all(message.body[:1] == b"{" for _, message in logged)  # JSON, for people and foreign clients

    on_node(test)


def test_while_the_link_is_down_lines_only_go_out(on_node: Any) -> None:
    async def test(node: Any) -> None:
        out: list[str] = []
        heard = node.heard(node.cloud_broker, "edge/+/up/log/#")
        log = await _log(node, out)
        node.cloud.bus.lost()
        log.warn("link is down")
        node.cloud.bus.connect()
        await node.settled()
        assert (out, heard, node.logged) == (["warning: link is down"], [], [])

    on_node(test)


@pytest.mark.parametrize("more", [1, 50])
def test_lines_that_come_faster_than_the_link_carries_are_dropped_and_counted(on_node: Any, more: int) -> None:
    async def test(node: Any) -> None:
        out: list[str] = []
        heard = node.heard(node.cloud_broker, "edge/+/up/log/#")
        log = await _log(node, out)
        for number in range(MAX_UNDER_WAY + more):
            log.log_worker("job-worker", "info", f"line {number}")
        await node.settled()
        assert (len(heard), len(out)) == (MAX_UNDER_WAY, MAX_UNDER_WAY + more)
        log.info("after")
        log.info("and then")
        await node.settled()
        fields = [decode(each.body).data["fields"] for each in heard[-2:]]
        assert fields == [{"dropped_before": more}, {}]

    on_node(test)


def test_a_line_that_is_longer_than_a_record_may_be_is_cut(on_node: Any) -> None:
    async def test(node: Any) -> None:
        heard = node.heard(node.cloud_broker, "edge/+/up/log/#")
        log = await _log(node, [])
        log.log_worker("job-worker", "info", "x" * (MAX_LENGTH + 1))
        await node.settled()
        assert decode(heard[0].body).data["message"] == "x" * MAX_LENGTH

    on_node(test)
