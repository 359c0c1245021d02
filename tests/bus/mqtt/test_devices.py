"""Devices with logins of their own, on a real mosquitto with dynamic security."""

from __future__ import annotations

import getpass
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from heliograph import devices
from heliograph.bus.connect import connect
from heliograph.bus.contract.device_permissions import device_topics
from heliograph.bus.transport import Bus
from heliograph.core.errors import Forbidden, HeliographError, Refused
from heliograph.core.world import World
from heliograph.local.nats_server import free_ports
from tests.bus.meeting import PATIENCE, following, until_refused

pytestmark = pytest.mark.mosquitto
Start = Callable[..., Awaitable[Any]]


@dataclass
class Site:
    """A node's mosquitto whose devices have logins."""

    directory: Path
    server: Any

    def url(self, name: str) -> str:
        return (self.directory / f"{name}.url").read_text().strip()

    async def add(self, name: str) -> str:
        await devices.add(self.url("admin"), name, self.directory, World())
        return self.url(name)


@pytest.fixture
async def site(mosquitto: Start, tmp_path: Path) -> AsyncIterator[Site]:
    try:
        plugin = str(devices.find_plugin())
    except HeliographError:
        pytest.skip("this mosquitto is older than its dynamic security")
    (port,) = free_ports(1)
    directory = tmp_path / "devices"
    lines = devices.write_settings(directory, f"mqtt://127.0.0.1:{port}", plugin, World()).splitlines()
    server = await mosquitto(f"user {getpass.getuser()}", f"listener {port} 127.0.0.1", *lines)
    yield Site(directory, server)


async def _up(bus: Bus) -> Bus:
    await bus.link.wait_up(PATIENCE)
    return bus


async def test_a_device_publishes_its_own_telemetry_and_reads_its_own_answers(site: Site) -> None:
    camera, thief = await site.add("camera"), await site.add("thief")
    async with connect(site.url("agent")) as agent, connect(camera) as device, connect(thief) as other:
        for bus in (agent, device, other):
            await _up(bus)
        async with agent.subscribe("event/telemetry/+/+", "inference/+/request") as events:
            for topic in ("event/telemetry/edge-1/camera", "ack/camera", "ack/thief", "event/assignment/w",
                          "edge/edge-1/up/model-update/j", "reply/camera/1", "event/worker/w"):  # fmt: skip
                with pytest.raises(Forbidden):
                    await other.publish_raw(topic, b"forged", {})
            await device.publish("event/telemetry/edge-1/camera", b"frame")
            assert (await following(events)).body == b"frame"
            await device.publish_raw("inference/street/request", b"sample", {})
            assert (await following(events)).topic == "inference/street/request"
        for pattern in ("#", "event/#", "ack/camera", "reply/camera/+", "reply/+/+", "event/assignment/+"):
            with pytest.raises(Refused):
                async with other.subscribe(pattern):
                    pass
        async with device.subscribe("ack/camera", "reply/camera/+") as heard:
            await agent.publish_raw("reply/camera/1", b"an answer", {})
            assert (await following(heard)).body == b"an answer"


async def test_a_removed_device_is_disconnected_and_does_not_come_back(site: Site) -> None:
    url = await site.add("camera")
    file = site.directory / "camera.url"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    admin, world = site.url("admin"), World()
    assert await devices.names(admin, world) == ["camera"]
    async with connect(url) as device:
        await _up(device)
        await devices.remove(admin, "camera", site.directory, world)
        await device.link.wait_down()
        await until_refused(device)
    assert await devices.names(admin, world) == []
    assert not file.exists()
    with pytest.raises(Refused) as refused:
        await devices.remove(admin, "camera", site.directory, world)
    assert refused.value.code == "not-found"
    async with connect(await site.add("camera")) as device:  # another password, the same rights
        await _up(device)
        await device.publish("event/telemetry/edge-1/camera", b"frame")


async def test_nobody_is_anonymous_and_no_device_administers(site: Site) -> None:
    url = await site.add("camera")
    async with connect(f"mqtt://127.0.0.1:{site.url('admin').rpartition(':')[2]}") as stranger:
        await until_refused(stranger)
    for login in (url, site.url("agent")):
        with pytest.raises((Refused, Forbidden)):
            await devices.add(login, "another", site.directory, World())
    for name in ("camera", "agent", "admin"):
        with pytest.raises(Refused) as refused:
            await site.add(name)
        assert refused.value.code == "exists"
    assert await devices.names(site.url("admin"), World()) == ["camera"]


@pytest.mark.parametrize("name", ["", "+", "#", "a/b", "A"])
def test_a_devices_name_widens_nothing(name: str) -> None:
    with pytest.raises(Refused):
        device_topics(name)


def test_a_device_may_what_is_its_own() -> None:
    publish, subscribe = device_topics("camera")
    assert set(publish) == {
        "heliograph/event/telemetry/+/camera", "heliograph/inference/+/request", "heliograph/request/labels/+",
        "heliograph/inference/+/offload/camera/+",
    }  # fmt: skip
    assert set(subscribe) == {
        "heliograph/ack/camera", "heliograph/reply/camera/+", "heliograph/status/+/+",
        "heliograph/inference/+/answer/+/camera/+",
    }  # fmt: skip


