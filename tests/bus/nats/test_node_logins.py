"""A launch's login on a node's broker: it reaches what is its worker's and its job's, by MQTT and by NATS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import with_credentials
from heliograph.bus.contract.launch_permissions import Launch
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.nats.worker_issuer import WorkerIssuer
from heliograph.bus.transport import Bus
from heliograph.core.errors import Refused
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.world import World
from heliograph.local.nats_server import Broker, User
from tests.bus.meeting import PATIENCE, following, until_refused
from tests.bus.roles import Start, connected, try_to_publish, violations

USERS = (User("agent", "", "agent"),)
LAUNCH = Launch.of("street-infer", "street", "0123abcd", "edge-1")
PUBLISHED = ("edge/edge-1/up/model-update/street", "edge/edge-1/up/inference-stats/street/street-infer",
             "edge/edge-1/up/hard-sample/another-job", "event/worker/street-infer", "reply/camera/1",
             "inference/street/offload/street-infer/1", "inference/another/request")  # fmt: skip
READ = ("event/assignment/street-infer", "ack/worker/street-infer", "inference/street/request",
        "inference/street/answer/+/street-infer/+")  # fmt: skip
FORBIDDEN = ("edge/edge-1/up/model-update/other", "edge/edge-2/up/model-update/street", "event/worker/other-infer",
             "event/assignment/street-infer", "ack/worker/street-infer", "ack/camera", "event/telemetry/edge-1/camera",
             "edge/edge-1/up/inference-stats/street/other-infer")  # fmt: skip
UNREAD = ("event/assignment/other-infer", "event/assignment/+", "event/worker/street-infer", "ack/worker/other-infer",
          "event/telemetry/#", "edge/#", "inference/other/request", "#")  # fmt: skip


@asynccontextmanager
async def launched(
    server: Broker, directory: Path, scheme: str, seconds: int = 3600, root: str = DEFAULT_ROOT
) -> AsyncIterator[Bus]:
    world, file = World(), directory / f"{scheme}.creds"
    key = KeyPair("user", world.new_secret())
    issuer = WorkerIssuer.read(server.worker_issuer)
    issuer.issue(LAUNCH, key, world.now(), int(world.now()) + seconds).write(file)
    url = with_credentials(server.url(scheme=scheme), file)  # type: ignore[arg-type]
    async with connect(url, inbox=inbox_of(LAUNCH.login), root=root) as bus:
        await bus.link.wait_up(PATIENCE)
        yield bus


@pytest.mark.parametrize("root", [DEFAULT_ROOT, "tenants/a"])
@pytest.mark.parametrize("scheme", ["mqtt", "nats"])
async def test_a_launch_reaches_what_is_its_own_and_nothing_else(
    broker: Start, tmp_path: Path, scheme: str, root: str
) -> None:
    server = await broker("node", USERS, root)
    async with connected(server, "agent", "mqtt", root=root) as agent, agent.subscribe("#") as messages:
        async with launched(server, tmp_path, scheme, root=root) as worker:
            for topic in READ:
                async with worker.subscribe(topic) as heard:
                    await agent.publish(topic.replace("+", "1"), b"for the worker", sure=False)
                    assert (await following(heard)).body == b"for the worker"
                    await following(messages)
            for topic in PUBLISHED:
                await try_to_publish(worker, topic, b"of the worker")
                assert (await following(messages)).topic == topic
            assert violations(server) == []
            for topic in FORBIDDEN:
                await try_to_publish(worker, topic)
            await try_to_publish(worker, PUBLISHED[0])
            assert (await following(messages)).topic == PUBLISHED[0]
            for topic in FORBIDDEN:
                assert violations(server, "Publish Violation", topic.replace("/", ".")), topic
            for pattern in UNREAD:
                with pytest.raises(Refused):
                    async with worker.subscribe(pattern):
                        pass


@pytest.mark.parametrize("scheme", ["mqtt", "nats"])
async def test_a_launchs_login_ends_by_itself(broker: Start, tmp_path: Path, scheme: str) -> None:
    server = await broker("node", USERS)
    async with launched(server, tmp_path, scheme, seconds=2) as worker:
        await worker.link.wait_down()
        await until_refused(worker)  # it connects again with the same login, and is nobody


async def test_a_password_that_is_no_login_gives_a_devices_rights_and_no_more(broker: Start) -> None:
    server = await broker("node", USERS)
    async with connected(server, "agent", "mqtt") as agent, agent.subscribe("#") as messages:
        async with connect(f"mqtt://agent:guessed@127.0.0.1:{server.mqtt_port}") as stranger:
            await stranger.link.wait_up(PATIENCE)
            await try_to_publish(stranger, "event/assignment/street-infer")
            await stranger.publish("event/telemetry/edge-1/camera", b"frame")
            assert (await following(messages)).topic == "event/telemetry/edge-1/camera"
            with pytest.raises(Refused):
                async with stranger.subscribe("#"):
                    pass


async def test_a_login_that_is_named_no_longer_is_revoked(tmp_path: Path) -> None:
    server = Broker(tmp_path, "node", (*USERS, User("worker", "", "worker")))
    await server.start()
    try:
        token = server.password("worker")
        server.users = USERS
        await server.stop()
        await server.start()
        async with connected(server, "agent", "mqtt"):
            pass
        async with connect(f"mqtt://worker:{token}@127.0.0.1:{server.mqtt_port}") as earlier:
            await until_refused(earlier)
    finally:
        await server.kill()
