"""A refusal by an MQTT broker is reported as one, whatever happens to the connection afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.transport import Bus
from heliograph.core.errors import Forbidden, LinkDown, Refused
from heliograph.local.mosquitto import Mosquitto
from tests.bus.meeting import until_refused
from tests.bus.mqtt.scripted import DISCONNECT, NOT_AUTHORIZED, ScriptedBroker
from tests.patience import HANGS

PATIENCE = HANGS
EVENT = "event/telemetry/edge-1/camera"


@asynccontextmanager
async def client(broker: ScriptedBroker, servers: int = 1) -> AsyncIterator[Bus]:
    """Connect by a URL that names the broker so many times."""
    async with (
        broker.listening(), connect(",".join([broker.url, *[broker.url.rpartition("@")[2]] * (servers - 1)])) as bus,
        asyncio.timeout(PATIENCE),
    ):  # fmt: skip
        await bus.link.wait_up()
        yield bus


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(("puback", "after"), [(NOT_AUTHORIZED, b""), (NOT_AUTHORIZED, DISCONNECT), (None, DISCONNECT)])
async def test_a_refused_publish_is_forbidden_though_the_connection_goes_down(
    puback: int | None, after: bytes, cut: bool
) -> None:
    broker = ScriptedBroker()
    broker.puback, broker.after, broker.cut = puback, after, cut or puback is None
    async with client(broker) as bus:
        with pytest.raises(Forbidden) as error:
            await bus.publish(EVENT, b"{}")
    assert "secret" not in str(error.value)


async def test_a_disconnect_with_a_reason_refuses_every_unacknowledged_message() -> None:
    broker = ScriptedBroker()
    broker.puback, broker.after, broker.cut = None, DISCONNECT, True
    async with client(broker) as bus:
        found = await asyncio.gather(*(bus.publish(EVENT, b"{}") for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in found] == [Forbidden] * 3


async def test_an_acknowledged_publish_is_published_though_the_connection_goes_down() -> None:
    broker = ScriptedBroker()
    broker.cut = True
    async with client(broker) as bus:
        assert await bus.publish(EVENT, b"{}") == 0


async def test_without_a_refusal_it_is_the_link() -> None:
    broker = ScriptedBroker()
    broker.puback, broker.cut = None, True
    async with client(broker) as bus:
        with pytest.raises(LinkDown):
            await bus.publish(EVENT, b"{}")


async def test_a_message_that_the_broker_does_not_take_is_refused() -> None:
    broker = ScriptedBroker()
    broker.puback = 0x99  # payload format invalid
    async with client(broker) as bus:
        with pytest.raises(Refused, match="PUBACK 153"):
            await bus.publish(EVENT, b"{}")


async def test_a_refused_login_is_forbidden_and_not_a_link_that_is_down() -> None:
    broker = ScriptedBroker()
    broker.connack = NOT_AUTHORIZED
    async with broker.listening(), connect(broker.url) as bus, asyncio.timeout(PATIENCE):
        await until_refused(bus)
        with pytest.raises(Forbidden, match="refuses this login"):
            await bus.link.wait_up(0.01)
        with pytest.raises(Forbidden, match="refuses this login"):
            await bus.publish(EVENT, b"{}")
        broker.connack = 0
        await bus.link.wait_up()
        await bus.publish(EVENT, b"{}")


async def test_a_subscription_that_is_refused_after_a_reconnect_ends_alone() -> None:
    broker = ScriptedBroker()
    async with client(broker) as bus, bus.subscribe("edge/+/up/log/#") as messages:
        broker.suback, broker.cut, broker.puback = NOT_AUTHORIZED, True, None
        with pytest.raises(LinkDown):
            await bus.publish(EVENT, b"{}")
        with pytest.raises(Refused, match="permission to subscribe"):
            await anext(messages)
        broker.cut, broker.puback = False, 0
        await bus.link.wait_up()
        await bus.publish(EVENT, b"{}")  # the other subscriptions go on


async def test_a_login_that_may_not_receive_replies_is_refused_each_time_and_stays_connected() -> None:
    broker = ScriptedBroker()
    broker.suback = NOT_AUTHORIZED
    async with client(broker) as bus:
        for _ in range(2):
            with pytest.raises(Refused, match="permission to subscribe"):
                await bus.request("request/jobs/list", b"{}", PATIENCE)
        assert len(broker.heard) == 2
        await bus.publish(EVENT, b"{}")


@pytest.mark.mosquitto
async def test_a_real_broker_reports_a_refusal_by_its_access_list(
    tmp_path: Path, mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> None:
    access = tmp_path / "access"
    access.write_text("topic write heliograph/edge/+/up/log/#\n")
    server = await mosquitto("user root", f"acl_file {access}")
    async with connect(server.url()) as bus, asyncio.timeout(PATIENCE):
        await bus.link.wait_up()
        await bus.publish("edge/a/up/log/agent/b", b"{}")
        with pytest.raises(Forbidden, match="may not publish to heliograph/event/telemetry/edge-1/camera"):
            await bus.publish(EVENT, b"{}")


@pytest.mark.parametrize("when", ["at first", "after a reconnect"])
async def test_a_cluster_that_cannot_keep_messages_yet_has_not_refused_the_subscription(when: str) -> None:
    broker = ScriptedBroker()
    async with client(broker, servers=2) as bus:
        broker.not_kept = 2 if when == "at first" else 0
        async with bus.subscribe("edge/+/up/log/#") as messages:
            if when == "after a reconnect":
                broker.not_kept, broker.cut, broker.puback = 2, True, None
                with pytest.raises(LinkDown):
                    await bus.publish(EVENT, b"{}")
                broker.cut, broker.puback = False, 0
                await bus.link.wait_up()
            assert broker.not_kept == 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):  # it goes on
                    await anext(messages)


async def test_a_cluster_refuses_at_once_what_the_login_may_not() -> None:
    broker = ScriptedBroker()
    async with client(broker, servers=2) as bus:
        broker.suback = NOT_AUTHORIZED
        with pytest.raises(Refused, match="permission to subscribe"):
            async with bus.subscribe("edge/+/up/log/#"):
                pass
        assert len(broker.heard) == 2  # no third time
