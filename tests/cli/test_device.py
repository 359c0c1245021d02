"""``heliograph device`` on a real mosquitto: what it prints, and what it writes."""

from __future__ import annotations

import getpass
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
import pytest

from heliograph.edge_agent.devices.mapping_file import read_mapping
from heliograph.local.nats_server import free_ports

pytestmark = pytest.mark.mosquitto


async def test_devices_get_logins_and_lose_them(
    alone: Any, mosquitto: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    directory, broker = tmp_path / "settings", f"mqtt://127.0.0.1:{port}"
    ready = await alone("device", "setup", str(directory), "--broker", broker)
    if "mosquitto_dynamic_security.so is in no" in ready.err:
        pytest.skip("this mosquitto is older than its dynamic security")
    assert ready.code == 0, ready.err
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}
    await mosquitto(f"user {getpass.getuser()}", f"listener {port} 127.0.0.1", *ready.out.splitlines())

    where = {"HELIOGRAPH_DEVICE_ADMIN": str(directory / "admin.url"), "XDG_STATE_HOME": str(tmp_path)}
    file = tmp_path / "heliograph" / "devices" / "camera.url"
    added = await alone("device", "add", "camera", **where)
    assert (added.code, added.out) == (0, f"device/camera added; its URL with its login lies in {file}\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("mqtt://camera:")
    assert (await alone("device", "list", **where)).out == "camera\n"
    again = await alone("device", "add", "camera", **where)
    assert again.code != 0
    assert "exists" in again.err
    assert (await alone("device", "remove", "camera", **where)).out == "device/camera removed\n"
    assert ((await alone("device", "list", **where)).out, file.exists()) == ("", False)


async def test_a_gateway_with_a_login_publishes_its_topics_and_the_agent_hears_them(
    alone: Any, mosquitto: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    directory, broker = tmp_path / "settings", f"mqtt://127.0.0.1:{port}"
    (tmp_path / "devices.toml").write_text('[[devices]]\npreset = "zigbee2mqtt"\n[[devices]]\npreset = "sparkplug"')
    mapped = ("--devices-map", str(tmp_path / "devices.toml"))
    ready = await alone("device", "setup", str(directory), "--broker", broker, *mapped)
    if "mosquitto_dynamic_security.so is in no" in ready.err:
        pytest.skip("this mosquitto is older than its dynamic security")
    await mosquitto(f"user {getpass.getuser()}", f"listener {port} 127.0.0.1", *ready.out.splitlines())
    where = {"HELIOGRAPH_DEVICE_ADMIN": str(directory / "admin.url"), "XDG_STATE_HOME": str(tmp_path)}
    for wide in ("#", "heliograph/#", "$SYS/#"):
        refused = await alone("device", "add", "zigbee", "--topic", wide, **where)
        assert refused.code != 0
        assert "expected a filter whose first level is a word, and not heliograph" in refused.err
    added = await alone("device", "add", "zigbee", "--topic", "zigbee2mqtt/#", **where)
    assert added.code == 0, added.err
    gateway = (tmp_path / "heliograph" / "devices" / "zigbee.url").read_text().strip()
    mapping = read_mapping(tmp_path / "devices.toml", "edge-1")
    async with client_of((directory / "agent.url").read_text().strip()) as agent, client_of(gateway) as device:
        for pattern in mapping.filters:
            assert [code.value for code in await agent.subscribe(pattern, qos=1)] == [1]
        await agent.subscribe("heliograph/#", qos=1)
        for topic in ("heliograph/event/worker/w", "spBv1.0/plant/NDATA/gw", "zigbee2mqtt/lamp"):
            await device.publish(topic, "1", qos=1)
        assert (await anext(aiter(agent.messages))).topic.value == "zigbee2mqtt/lamp"  # what it may not is dropped


def client_of(url: str) -> aiomqtt.Client:
    parts = urlsplit(url)
    return aiomqtt.Client("127.0.0.1", parts.port or 0, username=parts.username, password=parts.password,
                          protocol=aiomqtt.ProtocolVersion.V5)  # fmt: skip


async def test_without_a_broker_the_command_says_what_to_give(alone: Any, tmp_path: Path) -> None:
    ran = await alone("device", "list")
    assert ran.code == 2
    assert "invalid value for --broker: expected the URL of the broker, or a file with it, got nothing" in ran.err
    assert (await alone("device", "list", "--broker", str(tmp_path / "none"))).code == 2
