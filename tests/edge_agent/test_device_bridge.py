"""What crosses between the devices' broker and the workers', and what does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from heliograph.bus.contract.permissions import ANONYMOUS, carries
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.topics import INFERENCE_REQUEST, OFFLOAD, TELEMETRY
from heliograph.bus.transport import Message
from heliograph.core.failures import Failures
from heliograph.edge_agent import device_bridge
from heliograph.edge_agent.device_bridge import DeviceBridge
from tests.virtual_node import EDGE, Node

ASKS = "inference/line/request"


@dataclass
class Crossing:
    """A bridge between two brokers in memory: the node's is the devices', and the cloud's stands for the workers'."""

    node: Node
    told: list[str]

    async def from_devices(self, topic: str, body: bytes, **more: Any) -> list[Message]:
        """Publish as a device; return what reaches the workers' broker."""
        heard = self.node.heard(self.node.cloud_broker, "#")
        self.node.broker.publish(topic, Message(topic, body, **more))
        await self.node.settled()
        return [*heard]

    async def from_workers(self, topic: str, body: bytes) -> list[Message]:
        heard = self.node.heard(self.node.broker, "#")
        self.node.cloud_broker.publish(topic, Message(topic, body))
        await self.node.settled()
        return [*heard]


@pytest.fixture
def crossing(on_node: Any) -> Callable[[Callable[[Crossing], Any]], None]:
    def run(test: Callable[[Crossing], Any]) -> None:
        async def on(node: Node) -> None:
            told: list[str] = []
            bridge = DeviceBridge(node.node.bus, node.cloud.bus, EDGE, node.world, Failures(told.append))
            node.start(bridge.run())
            await node.settled()
            await test(Crossing(node, told))

        on_node(on)

    return run


def test_all_that_anonymous_clients_of_a_node_may_say_is_carried() -> None:
    said = {topic.pattern for topic in declared().topics if carries(topic, "node") and ANONYMOUS in topic.publishers}
    assert said == {TELEMETRY.pattern, INFERENCE_REQUEST.pattern, OFFLOAD.pattern}  # and labellers' requests


@pytest.mark.parametrize("topic", [ASKS, "request/labels/claim", "inference/line/offload/meter/1"])
def test_what_devices_may_say_reaches_workers_as_it_was_said(crossing: Any, topic: str) -> None:
    async def test(crossing: Crossing) -> None:
        [message] = await crossing.from_devices(topic, b'{"a": 1, "reply_to": "heliograph/reply/meter/1"}')
        assert (message.topic, message.body) == (topic, b'{"a": 1, "reply_to": "heliograph/reply/meter/1"}')

    crossing(test)


@pytest.mark.parametrize(
    "topic", ["event/worker/job-worker", "event/assignment/job-worker", f"edge/{EDGE}/up/model-update/job",
              f"event/telemetry/{EDGE}/meter", "event/telemetry/other/meter", "ack/worker/job-worker", "reply/meter/1",
              "request/jobs/create"],
)  # fmt: skip
def test_nothing_else_that_devices_say_reaches_workers(crossing: Any, topic: str) -> None:
    async def test(crossing: Crossing) -> None:
        assert await crossing.from_devices(topic, b"{}") == []

    crossing(test)


@pytest.mark.parametrize("topic", ["reply/meter/1"])
def test_what_is_meant_for_devices_reaches_them(crossing: Any, topic: str) -> None:
    async def test(crossing: Crossing) -> None:
        [message] = await crossing.from_workers(topic, b"{}")
        assert message.topic == topic

    crossing(test)


@pytest.mark.parametrize(
    "topic", ["event/assignment/job-worker", "ack/meter", "ack/worker/job-worker",
              f"inference/line/answer/{EDGE}/job-worker/1"],
)  # fmt: skip
def test_what_is_meant_for_workers_stays_among_them(crossing: Any, topic: str) -> None:
    async def test(crossing: Crossing) -> None:
        assert await crossing.from_workers(topic, b"{}") == []

    crossing(test)


def test_the_answer_to_a_devices_offloaded_sample_reaches_it_once(crossing: Any) -> None:
    async def test(crossing: Crossing) -> None:
        await crossing.from_devices("inference/line/offload/meter/7", b"{}")
        answer = f"inference/line/answer/{EDGE}/meter/7"
        assert [each.topic for each in await crossing.from_workers(answer, b"{}")] == [answer]
        assert await crossing.from_workers(answer, b"{}") == []

    crossing(test)


def test_a_response_topic_and_its_correlation_data_come_back_with_the_answer(crossing: Any) -> None:
    async def test(crossing: Crossing) -> None:
        asked = []
        for number in (b"1", b"2"):
            [message] = await crossing.from_devices(ASKS, b'{"input": 1}', reply_to="reply/meter/1", correlation=number)
            asked.append(json.loads(message.body)["reply_to"].removeprefix("heliograph/"))
        assert len(set(asked)) == 2
        for number, address in zip((b"1", b"2"), asked, strict=True):
            [answer] = await crossing.from_workers(address, b"{}")
            assert (answer.topic, answer.correlation) == ("reply/meter/1", number)

    crossing(test)


@pytest.mark.parametrize(
    ("body", "more", "told"),
    [
        (b"{}", {"reply_to": "status/jobs/mine"}, "A reply can only be sent below heliograph/reply/"),
        (b"[1]", {"reply_to": "reply/meter/1"}, "expected a mapping"),
        (b"\xc1", {"reply_to": "reply/meter/1"}, "inference/line/request"),
        (b"{}", {"retained": True}, "Publish without the retain flag"),
        (b" " * (8 * 1024 * 1024 + 1), {}, "at most"),
    ],
)  # fmt: skip
def test_a_message_that_is_not_carried_is_told_and_the_next_one_is(
    crossing: Any, body: bytes, more: dict[str, Any], told: str
) -> None:
    async def test(crossing: Crossing) -> None:
        assert await crossing.from_devices(ASKS, body, **more) == []
        assert told in " ".join(crossing.told)
        assert len(await crossing.from_devices(ASKS, b"{}")) == 1

    crossing(test)


def test_a_flood_of_requests_is_remembered_up_to_a_bound(crossing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_bridge, "MOST_ASKED", 3)

    async def test(crossing: Crossing) -> None:
        for number in range(5):
            await crossing.from_devices(f"inference/line/offload/meter/{number}", b"{}")
        heard = [await crossing.from_workers(f"inference/line/answer/{EDGE}/meter/{n}", b"{}") for n in range(5)]
        assert [len(each) for each in heard] == [0, 0, 1, 1, 1]

    crossing(test)
