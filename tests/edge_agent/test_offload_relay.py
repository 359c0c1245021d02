"""Hard samples to the cloud's model and its answers back: an answer or an error at once, nothing stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from heliograph.bus.contract.topics import ANSWER, BIG_MODEL, BIG_MODEL_ANSWER, OFFLOAD
from heliograph.bus.transport import Message
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.edge_agent.offload_relay import OffloadRelay

EDGE = "edge-1"
WHO = {"service": "street", "client": "street-worker", "id": "1f"}
ASKED, ANSWERED = OFFLOAD.at(**WHO), ANSWER.at(edge=EDGE, **WHO)
FROM_CLOUD = BIG_MODEL_ANSWER.at(edge=EDGE, **WHO)


def _relaying(on_node: Any, test: Callable[[Any], Any]) -> None:
    async def main(node: Any) -> None:
        relay = OffloadRelay(node.node, node.cloud, EDGE, Failures(node.logged.append))
        running = [node.start(relay.carry_up()), node.start(relay.carry_down())]
        await node.settled()
        await test(node)
        await cancel_and_wait(*running)

    on_node(main)


def test_a_sample_goes_up_with_the_address_of_its_answer(on_node: Any) -> None:
    async def test(node: Any) -> None:
        asked = node.heard(node.cloud_broker, BIG_MODEL.filter())
        node.publish(ASKED, b"a sample")
        await node.settled()
        (message,) = asked
        assert (message.topic, message.body) == (BIG_MODEL.at(service="street", edge=EDGE), b"a sample")
        assert message.reply_to == FROM_CLOUD

    _relaying(on_node, test)


def test_an_answer_goes_to_its_requester(on_node: Any) -> None:
    async def test(node: Any) -> None:
        answers = node.heard(node.broker, ANSWER.filter())
        node.cloud_broker.publish(FROM_CLOUD, Message(FROM_CLOUD, b"an answer"))
        other = BIG_MODEL_ANSWER.at(edge="edge-2", **WHO)
        node.cloud_broker.publish(other, Message(other, b"another edge's"))
        await node.settled()
        assert [(each.topic, each.body) for each in answers] == [(ANSWERED, b"an answer")]

    _relaying(on_node, test)


def test_without_a_deep_model_the_requester_gets_an_error_at_once(on_node: Any) -> None:
    async def test(node: Any) -> None:
        answers = node.heard(node.broker, ANSWER.filter())
        node.cloud_broker.publish(FROM_CLOUD, Message(FROM_CLOUD, b"", headers={"Status": "503"}))
        await node.settled()
        assert msgpack.unpackb(answers[0].body)["error"] == {
            "code": "unreachable", "message": "no worker of the service's deep model is there",
        }  # fmt: skip

    _relaying(on_node, test)


def test_without_a_link_the_requester_gets_an_error_at_once_and_later_samples_go_up_again(on_node: Any) -> None:
    async def test(node: Any) -> None:
        answers = node.heard(node.broker, ANSWER.filter())
        asked = node.heard(node.cloud_broker, BIG_MODEL.filter())
        node.cloud.bus.lost()
        node.publish(ASKED, b"a sample")
        await node.settled()
        assert [each.topic for each in answers] == [ANSWERED]
        assert msgpack.unpackb(answers[0].body)["error"]["code"] == "unreachable"
        node.cloud.bus.connect()
        node.publish(ASKED, b"a later sample")
        await node.settled()
        assert [each.body for each in asked] == [b"a later sample"]

    _relaying(on_node, test)


def test_a_sample_that_is_too_large_is_answered_with_the_reason(on_node: Any) -> None:
    async def test(node: Any) -> None:
        answers = node.heard(node.broker, ANSWER.filter())
        node.publish(ASKED, b"x" * (BIG_MODEL.max_size + 1))
        await node.settled()
        assert msgpack.unpackb(answers[0].body)["error"]["code"] == "too-large"

    _relaying(on_node, test)


def test_an_answer_while_the_nodes_broker_is_away_is_dropped_and_the_next_one_is_relayed(on_node: Any) -> None:
    async def test(node: Any) -> None:
        answers = node.heard(node.broker, ANSWER.filter())
        node.node.bus.lost()
        node.cloud_broker.publish(FROM_CLOUD, Message(FROM_CLOUD, b"lost"))
        await node.settled()
        node.node.bus.connect()
        node.cloud_broker.publish(FROM_CLOUD, Message(FROM_CLOUD, b"carried"))
        await node.settled()
        assert [each.body for each in answers] == [b"carried"]

    _relaying(on_node, test)


def test_a_retained_sample_goes_nowhere(on_node: Any) -> None:
    async def test(node: Any) -> None:
        asked = node.heard(node.cloud_broker, BIG_MODEL.filter())
        node.publish(ASKED, b"a sample", retained=True)
        await node.settled()
        assert asked == []
        assert "expected a message of now" in node.logged[0]

    _relaying(on_node, test)
