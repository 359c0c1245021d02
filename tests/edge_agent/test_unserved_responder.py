"""A request for a service that this node does not serve is answered with the names of the served ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from heliograph.bus.contract.topics import INFERENCE_REQUEST
from heliograph.core.errors import Refused
from heliograph.core.tasks import cancel_and_wait
from heliograph.edge_agent.unserved_responder import UnservedResponder

REPLY = "reply/camera/1"


class Responding:
    def __init__(self, node: Any) -> None:
        self.node = node
        self.served: set[str] = set()
        self.refused: list[tuple[str, Refused]] = []
        self.replies = node.heard(node.broker, "reply/#")

    async def ask(self, service: str, body: bytes, **more: Any) -> None:
        self.node.publish(INFERENCE_REQUEST.at(service=service), body, **more)
        await self.node.settled()


def _responding(on_node: Any, test: Callable[[Responding], Any]) -> None:
    async def main(node: Any) -> None:
        responding = Responding(node)
        responder = UnservedResponder(node.node, lambda: responding.served,
                                     lambda *refusal: responding.refused.append(refusal))
        running = node.start(responder.run())
        await node.settled()
        await test(responding)
        await cancel_and_wait(running)

    on_node(main)


@pytest.mark.parametrize(("pack", "unpack"),
                         [(lambda tree: json.dumps(tree).encode(), json.loads), (msgpack.packb, msgpack.unpackb)],
                         ids=["json", "msgpack"])  # fmt: skip
def test_the_sender_gets_the_served_services_in_its_own_format(on_node: Any, pack: Any, unpack: Any) -> None:
    async def test(responding: Responding) -> None:
        responding.served |= {"street", "park"}
        await responding.ask("strete", pack({"x": [1], "reply_to": f"heliograph/{REPLY}"}))
        (reply,) = responding.replies
        error = unpack(reply.body)["error"]
        assert (reply.topic, error["code"], error["field"], error["got"]) == (
            REPLY, "unknown-service", "service", "strete",
        )  # fmt: skip
        assert error["expected"].endswith("park, street")

    _responding(on_node, test)


def test_a_response_topic_and_its_correlation_serve_as_well(on_node: Any) -> None:
    async def test(responding: Responding) -> None:
        await responding.ask("street", b"not even JSON", reply_to=REPLY, correlation=b"17")
        (reply,) = responding.replies
        assert (reply.topic, reply.correlation) == (REPLY, b"17")
        assert msgpack.unpackb(reply.body)["error"]["expected"].endswith("none")

    _responding(on_node, test)


def test_a_request_that_is_served_is_left_to_its_worker(on_node: Any) -> None:
    async def test(responding: Responding) -> None:
        responding.served.add("street")
        await responding.ask("street", b"{}", reply_to=REPLY)
        assert responding.replies == []
        responding.served.clear()  # the worker has ended
        await responding.ask("street", b"{}", reply_to=REPLY)
        assert len(responding.replies) == 1

    _responding(on_node, test)


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (b"{}", {}),
        (b"not JSON", {}),
        (b"", {}),
        (b'{"reply_to": "edge/edge-1/up/label/job"}', {}),
        (b'{"reply_to": 3}', {}),
        (b"{}", {"reply_to": "edge/edge-1/up/label/job"}),
    ],
)
def test_a_request_without_a_reply_address_is_shown_and_the_next_answered(on_node: Any, body: bytes, more: Any) -> None:
    async def test(responding: Responding) -> None:
        await responding.ask("street", body, **more)
        assert ([error.code for _, error in responding.refused], responding.replies) == (["unknown-service"], [])
        await responding.ask("street", b"{}", reply_to=REPLY)
        assert len(responding.replies) == 1

    _responding(on_node, test)


def test_a_retained_request_gets_no_answer(on_node: Any) -> None:
    async def test(responding: Responding) -> None:
        await responding.ask("street", json.dumps({"reply_to": f"heliograph/{REPLY}"}).encode(), retained=True)
        assert responding.replies == []
        ((topic, error),) = responding.refused
        assert (topic, error.code) == (INFERENCE_REQUEST.at(service="street"), "retained")

    _responding(on_node, test)
