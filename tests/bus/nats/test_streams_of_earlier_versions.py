"""Streams of an earlier version: a new leader updates their configuration, and their messages stay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import Event, decode, encode
from heliograph.bus.nats.bus import NatsBus
from heliograph.core.world import World
from heliograph.local.nats_server import Broker
from tests.patience import HANGS

SMALL = 1024


async def test_an_earlier_stream_is_updated_and_keeps_its_messages(
    broker: Callable[..., Awaitable[Broker]],
) -> None:
    cloud = await broker()
    async with NatsBus(cloud.url("coordinator"), "heliograph", World(), "coordinator", "") as bus:
        await bus.link.wait_up(HANGS)
        name = bus.subjects.stream_name("TASKS")
        await bus.connection.ask(f"$JS.API.STREAM.CREATE.{name}", _earlier(bus))
        await bus.publish(*_document("edge-1", "old", 10))
        await bus.prepare()
        await bus.prepare()  # the second call changes nothing
        await bus.publish(*_document("edge-1", "new", 4 * SMALL))
        kept = await bus.last(topics.TASK.at(edge="edge-1"))
        assert kept is not None and decode(kept.body).id == "new"
        found = (await bus.connection.ask(f"$JS.API.STREAM.INFO.{name}", {}))["config"]
        assert found["max_msgs_per_subject"] == 1
        assert found["max_msg_size"] == topics.TASK.max_size + 4096


def _earlier(bus: NatsBus) -> dict[str, Any]:
    return {
        "name": bus.subjects.stream_name("TASKS"),
        "subjects": [bus.subjects.subject(topics.TASK.filter())],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_msgs_per_subject": 5,
        "allow_direct": True,
        "max_msg_size": SMALL,
    }


def _document(edge: str, id: str, size: int) -> tuple[str, bytes]:
    address = topics.TASK.at(edge=edge)
    return address, encode(Event(id, "cloud/coordinator/x", topics.TASK.type, {"text": "x" * size}, subject=address))
