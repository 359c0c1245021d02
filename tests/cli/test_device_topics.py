"""``heliograph device topics`` at real brokers: what devices publish, and what a mapping makes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from heliograph.local.nats_server import Broker, User

MAP = '[[devices]]\npreset = "zigbee2mqtt"\n[[devices]]\ntopic = "hall/{machine}/csv"\ndevice = "{machine}"\n' \
    'content-type = "text/csv"\n[[devices]]\ntopic = "hall/#"\nskip = true\n'  # fmt: skip
PUBLISHED = ("zigbee2mqtt/Living Room", "hall/press/csv", "hall/press/debug", "tele/plug/SENSOR", "odd/\u202ered")


@pytest.mark.mosquitto
async def test_each_topic_is_shown_once_with_what_becomes_of_it(
    alone: Any, mosquitto: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    broker, file = await mosquitto(), tmp_path / "devices.toml"
    file.write_text(MAP)
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        for topic in PUBLISHED:
            await client.publish(topic, "1", qos=1, retain=True)
    ran = await alone("device", "topics", "--broker", broker.url(), "--devices-map", str(file), "--seconds", "0.5")
    assert (ran.code, ran.err) == (0, "")
    *lines, last = ran.out.splitlines()
    assert sorted(lines) == [
        "hall/press/csv: device press, event telemetry, text/csv",
        "hall/press/debug: passed over",
        "odd/ red: no rule takes it",
        'tele/plug/SENSOR: no rule takes it; preset = "tasmota" does',
        "zigbee2mqtt/Living Room: device living-room-e4a3c880ef74, event telemetry",
    ]
    assert last == "5 topics in 0.5 s: 2 taken, 1 passed over, 2 without a rule"


async def test_a_login_that_may_not_read_all_topics_is_told_so(
    alone: Any, broker: Callable[..., Awaitable[Any]]
) -> None:
    node: Broker = await broker("node", (User("agent", "", "agent"),))
    ran = await alone("device", "topics", "--broker", node.url(scheme="mqtt"), "--seconds", "0.5")
    assert ran.code != 0
    assert "expected a login that reads all topics, got another. Give the agent's by --broker" in ran.err
    ran = await alone("device", "topics", "--broker", node.url("agent", "mqtt"), "--seconds", "0.1")
    assert (ran.code, ran.err) == (0, "")


async def test_an_agent_whose_mapping_cannot_be_names_the_field(alone: Any, tmp_path: Path) -> None:
    file = tmp_path / "devices.toml"
    for text, told in (
        ('[[devices]]\ntopic = "a/{b}"\ndevice = "{c}"', f"{file} field devices 1, device: expected a-z"),
        ('[[devices]]\ntopic = "heliograph/ack/{b}"\ndevice = "{b}"', f"{file} field topic: expected topics outside"),
    ):
        file.write_text(text)
        ran = await alone("agent", "--name", "edge-1", "--cloud", "nats://127.0.0.1:1", "--node", "mqtt://127.0.0.1:1",
                          "--state", str(tmp_path / "state"), "--devices-map", str(file))  # fmt: skip
        assert ran.code not in (0, None)
        assert told in ran.err, ran.err
        assert "Traceback" not in ran.err


async def test_what_cannot_be_is_refused_at_once(alone: Any, tmp_path: Path) -> None:
    (tmp_path / "devices.toml").write_text('[[devices]]\npreset = "zigbee"')
    broker = ("--broker", "mqtt://127.0.0.1:1")
    for words, told in (
        ((), "invalid value for --broker: expected the URL of the broker, or a file with it, got nothing"),
        ((*broker, "--edge", "Edge 1"), "invalid value for --edge"),
        ((*broker, "--devices-map", str(tmp_path / "devices.toml")), "devices 1, preset: expected one of zigbee2mqtt"),
        ((*broker, "--devices-map", str(tmp_path / "none.toml")), "expected a file with the mapping of devices"),
        (("--broker", "nats://127.0.0.1:1"), "expected"),
    ):
        ran = await alone("device", "topics", *words)
        assert ran.code != 0
        assert told in ran.err, ran.err
        assert "Traceback" not in ran.err
