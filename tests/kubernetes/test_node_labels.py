"""Edges have the labels of the nodes that they run on."""

from __future__ import annotations

import pytest

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Generation, Report
from heliograph.bus.contract.resources import Edge
from heliograph.bus.port import Port
from heliograph.coordinator.kubernetes.api import NODES, Api
from heliograph.coordinator.kubernetes.node_labels import NODE_GROUP, with_node_labels
from heliograph.coordinator.kubernetes.worker_job import HOSTNAME
from heliograph.core.world import World
from tests.kubernetes.running_operator import EDGE, operating


def edge(**labels: str) -> Edge:
    return Edge.model_validate({"metadata": {"name": "e", "labels": labels}, "spec": {"labels": {HOSTNAME: "n"}}})


@pytest.mark.parametrize(("before", "node", "after"), [
    ({}, {NODE_GROUP: "berlin", "other": "x"}, {NODE_GROUP: "berlin"}),
    ({NODE_GROUP: "berlin", "mine": "y"}, {}, {"mine": "y"}),
    ({"mine": "y"}, {"topology.kubernetes.io/zone": "a"}, {"mine": "y", "topology.kubernetes.io/zone": "a"}),
    ({NODE_GROUP: "berlin"}, None, {NODE_GROUP: "berlin"}),
])  # fmt: skip
def test_the_group_and_the_place_are_copied(
    before: dict[str, str], node: dict[str, str] | None, after: dict[str, str]
) -> None:
    assert with_node_labels(edge(**before), node).metadata.labels == after


def test_nothing_is_written_where_nothing_changes() -> None:
    known = edge(**{NODE_GROUP: "berlin"})
    assert with_node_labels(known, {NODE_GROUP: "berlin", "other": "x"}) is known


async def test_an_edge_shows_its_nodes_group_and_follows_it(kubernetes: Api) -> None:
    node = {"metadata": {"name": "n", "labels": {HOSTNAME: "n.site", NODE_GROUP: "berlin"}}}
    await kubernetes.create(NODES, "", node)
    async with operating(kubernetes) as running:
        report = Report(edge="edge-1", observed=Generation(), labels={HOSTNAME: "n.site"})
        port = Port(running.client.bus, World(), "edge/edge-1/agent/1")
        await port.publish(topics.REPORT, report, edge="edge-1")
        await running.until(EDGE, "edge-1", lambda each: each["metadata"]["labels"].get(NODE_GROUP) == "berlin")
        await kubernetes.patch(NODES, "", "n", {"metadata": {"labels": {NODE_GROUP: None}}})
        await running.until(EDGE, "edge-1", lambda each: NODE_GROUP not in each["metadata"]["labels"])
        assert (await running.client.edges.get("edge-1"))["spec"]["labels"] == {HOSTNAME: "n.site"}
