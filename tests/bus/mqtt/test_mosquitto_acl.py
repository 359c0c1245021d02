"""Access rules for mosquitto, on a real one."""

from __future__ import annotations

import asyncio
import getpass
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.mosquitto_acl import mosquitto_acl
from heliograph.bus.contract.permissions import Place
from heliograph.bus.contract.topics import Role
from heliograph.bus.transport import Bus
from heliograph.core.errors import Forbidden, Refused
from tests.bus.meeting import PATIENCE, following

pytestmark = pytest.mark.mosquitto
Start = Callable[..., Awaitable[Any]]


async def start(mosquitto: Start, directory: Path, place: Place, logins: Mapping[str, Role]) -> Any:
    """Start a mosquitto with the rules of those logins; each password is ``of-NAME``."""
    if (program := shutil.which("mosquitto_passwd")) is None:
        pytest.skip("mosquitto_passwd is not installed")
    passwords, rules = directory / "passwords", directory / "rules.acl"
    passwords.write_text("".join(f"{name}:of-{name}\n" for name in logins))
    process = await asyncio.create_subprocess_exec(program, "-U", str(passwords))
    assert await process.wait() == 0
    rules.write_text(mosquitto_acl(place, logins))
    own = f"user {getpass.getuser()}"  # root's mosquitto would become another user, who may not read the files
    return await mosquitto(own, f"password_file {passwords}", f"acl_file {rules}")


@asynccontextmanager
async def connected(server: Any, user: str = "") -> AsyncIterator[Bus]:
    login = f"{user}:of-{user}@" if user else ""
    async with connect(f"mqtt://{login}127.0.0.1:{server.port}") as bus:
        await bus.link.wait_up(PATIENCE)
        yield bus


async def test_a_door_lets_users_ask_and_anonymous_clients_read_status(mosquitto: Start, tmp_path: Path) -> None:
    logins: dict[str, Role] = {"coordinator": "coordinator", "alice": "user", "bob": "user"}
    server = await start(mosquitto, tmp_path, "cloud", logins)
    async with connected(server, "coordinator") as door, connected(server) as stranger:
        await door.publish("status/jobs/one", b"Running", retain=True)
        async with connected(server, "alice") as alice, connected(server, "bob") as bob:
            async with door.subscribe("request/#") as requests:
                with pytest.raises(Forbidden):
                    await stranger.publish("request/jobs/delete", b"{}")
                for bus, topic in ((stranger, "status/jobs/one"), (alice, "status/jobs/one"),
                                   (alice, "edge/edge-1/down/task"), (alice, "reply/bob/1")):  # fmt: skip
                    with pytest.raises(Forbidden):
                        await bus.publish(topic, b"forged", retain=True)
                asking = asyncio.create_task(alice.request("request/jobs/list", b"{}", PATIENCE))
                request = await following(requests)
                assert request.topic == "request/jobs/list"
                assert request.reply_to is not None
                assert request.reply_to.startswith("reply/alice/")
                async with bob.subscribe("reply/#") as foreign:  # mosquitto accepts it, and delivers nothing of alice's
                    await door.publish(request.reply_to, b'{"ok": true}', correlation=request.correlation)
                    assert json.loads((await asking).body) == {"ok": True}
                    await door.publish("reply/bob/1", b"his own")
                    assert (await following(foreign)).body == b"his own"
            for reader in (stranger, alice):
                async with reader.subscribe("status/#") as statuses:
                    assert (await following(statuses)).body == b"Running"


async def test_a_node_lets_devices_publish_telemetry_and_no_result(mosquitto: Start, tmp_path: Path) -> None:
    server = await start(mosquitto, tmp_path, "node", {"agent": "agent", "worker": "worker"})
    async with connected(server, "agent") as agent, connected(server) as device, connected(server, "worker") as worker:
        async with agent.subscribe("event/#", "edge/#") as events:
            for topic in ("edge/edge-1/up/model-update/job", "event/worker/w", "request/jobs/list"):
                with pytest.raises(Forbidden):
                    await worker.publish("event/telemetry/edge-1/camera", b"no device")
                if not topic.startswith("event/worker"):  # sent at QoS 0, which nobody acknowledges
                    with pytest.raises(Forbidden):
                        await device.publish(topic, b"forged")
            await device.publish("event/telemetry/edge-1/camera", b"frame")
            assert (await following(events)).body == b"frame"
            await worker.publish("edge/edge-1/up/model-update/job", b"update")
            assert (await following(events)).body == b"update"
        async with worker.subscribe("event/assignment/w") as assignments:
            await agent.publish("event/assignment/w", b"task")
            assert (await following(assignments)).body == b"task"


def test_a_users_name_widens_no_rule() -> None:
    for name in ("+", "#", "a/b"):
        with pytest.raises(Refused):
            mosquitto_acl("cloud", {name: "user"})
