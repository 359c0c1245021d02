"""TLS to real brokers: every client verifies the broker, and none sends clear text where TLS is required."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.nats.bulk import BulkLink
from heliograph.bus.transport import Bus
from heliograph.core.errors import Refused, Unreachable
from heliograph.core.world import World
from heliograph.local.mosquitto import Mosquitto
from heliograph.local.nats_server import Broker
from tests.bus.authority import Authority
from tests.bus.meeting import EVENT, PATIENCE, following, with_mosquitto
from tests.bus.nats.scripted import ScriptedServer
from tests.conftest import USERS

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificates with openssl")
kinds = pytest.mark.parametrize("kind", ["nats", "mqtt-on-nats", with_mosquitto])
NATS_ONLY = pytest.mark.parametrize("kind", ["nats"])


@dataclass
class TlsBroker(Broker):
    """A foreign nats-server with TLS on both ports, and a user with a password; with ``verify`` it requires client
    certificates. One that is not ``first`` speaks first in clear text, as nats-server's defaults have it."""

    ca: Path = Path()
    certificate: Path = Path()
    key: Path = Path()
    verify: bool = False
    first: bool = True

    def config(self) -> str:
        ours = ("operator", "system_account", "resolver", "resolver_preload", "default_sentinel")
        tree = {name: value for name, value in json.loads(super().config()).items() if name not in ours}
        tree["authorization"] = {"users": [{"user": "coordinator", "password": "of-coordinator"}]}
        files = {"ca_file": str(self.ca), "cert_file": str(self.certificate), "key_file": str(self.key)}
        tree["tls"] = files | {"verify": self.verify, "handshake_first": self.first}
        tree["mqtt"]["tls"] = files | {"verify": self.verify}
        return json.dumps(tree)


Secured = Callable[..., Awaitable[str]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def secured(
    kind: str, tmp_path: Path, authority: Authority, mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> AsyncIterator[Secured]:
    """Return ``await secured(verify=False, first=True)``, which starts a broker certified for ``localhost`` and returns
    its URL."""
    started: list[Broker] = []
    certificate, key = authority.certificate("server", "DNS:localhost")
    for each in (authority.ca, certificate, key):  # mosquitto drops its privileges before it reads the files
        each.chmod(0o644)

    async def start(verify: bool = False, first: bool = True) -> str:
        if kind == "mosquitto":
            settings = (f"cafile {authority.ca}", f"certfile {certificate}", f"keyfile {key}", "user root")
            server = await mosquitto(*settings, f"require_certificate {str(verify).lower()}")
            return f"mqtts://localhost:{server.port}"
        one = TlsBroker(tmp_path / "broker", "node", USERS, ca=authority.ca, certificate=certificate, key=key,
                        verify=verify, first=first)  # fmt: skip
        started.append(one)
        await one.start()
        login = "coordinator:of-coordinator@localhost"
        return f"tls://{login}:{one.port}" if kind == "nats" else f"mqtts://{login}:{one.mqtt_port}"

    yield start
    for each in started:
        await each.kill()


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Bus]:
    async with connect(url) as bus, asyncio.timeout(PATIENCE):
        await bus.link.wait_up()
        yield bus


async def refusal(url: str) -> str:
    """Return the client's reason for a failed connection."""
    async with connect(url) as bus, asyncio.timeout(PATIENCE):
        while not bus.last_error:
            await asyncio.sleep(0.01)
        assert not bus.link.up
        return bus.last_error


async def carries_messages(url: str) -> None:
    async with client(url) as one, client(url) as other, other.subscribe("edge/+/up/log/#") as messages:
        await one.publish("edge/a/up/log/agent/b", b"1")
        assert (await following(messages)).body == b"1"
        await one.prepare()
        await one.publish(EVENT, b"{}")


async def carries_blobs(url: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "source").write_bytes(content)
    ref = WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=len(content))
    async with client(url) as bus:
        store = await bus.blobs("models")
        stored = await store.put(tmp_path / "source", ref)
        assert (await store.fetch(stored, tmp_path / "target")).read_bytes() == content


@kinds
async def test_a_broker_whose_authority_is_trusted(secured: Secured, authority: Authority) -> None:
    await carries_messages(f"{await secured()}?ca={authority.ca}")


@kinds
async def test_the_authority_may_come_from_the_environment(
    secured: Secured, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIOGRAPH_TLS_CA", str(authority.ca))
    await carries_messages(await secured())


@kinds
async def test_a_broker_without_a_trusted_authority_is_refused(secured: Secured) -> None:
    assert "certificate verify failed" in await refusal(await secured())


@kinds
async def test_a_certificate_for_another_name_is_refused(secured: Secured, authority: Authority) -> None:
    url = (await secured()).replace("localhost", "127.0.0.1")
    assert "IP address mismatch" in await refusal(f"{url}?ca={authority.ca}")


@kinds
async def test_a_broker_that_asks_for_a_certificate(secured: Secured, authority: Authority) -> None:
    url = f"{await secured(verify=True)}?ca={authority.ca}"
    assert await refusal(url)
    certificate, key = authority.certificate("client", "DNS:client")
    await carries_messages(f"{url}&certificate={certificate}&key={key}")


@NATS_ONLY
@pytest.mark.parametrize("verify", [False, True])
async def test_blobs_travel_by_the_same_files(
    secured: Secured, authority: Authority, tmp_path: Path, verify: bool
) -> None:
    certificate, key = authority.certificate("client", "DNS:client")
    files = f"ca={authority.ca}&certificate={certificate}&key={key}"
    await carries_blobs(f"{await secured(verify=verify)}?{files}", tmp_path)


@NATS_ONLY
async def test_a_transfer_verifies_the_broker_too(secured: Secured) -> None:
    url = ConnectionUrl.parse(await secured())
    with pytest.raises(Unreachable, match="certificate verify failed"):
        await asyncio.to_thread(BulkLink, url, "_INBOX.one")


@NATS_ONLY
async def test_a_client_without_a_tls_setting_follows_a_broker_that_requires_tls(
    secured: Secured, authority: Authority, tmp_path: Path
) -> None:
    url = f"{await secured(first=False)}?ca={authority.ca}".replace("tls://", "nats://")
    await carries_messages(url)
    await carries_blobs(url, tmp_path)


@NATS_ONLY
async def test_a_server_that_speaks_first_in_clear_text_is_reached_where_the_url_says_so(
    secured: Secured, authority: Authority, tmp_path: Path
) -> None:
    url = f"{await secured(first=False)}?ca={authority.ca}"
    assert "named by tls://…?handshake=upgrade" in await refusal(url)
    await carries_messages(f"{url}&handshake=upgrade")
    await carries_blobs(f"{url}&handshake=upgrade", tmp_path)


@pytest.mark.parametrize("query", ["", "?handshake=upgrade"])
async def test_no_login_is_sent_in_clear_text_where_the_url_requires_tls(query: str) -> None:
    server = ScriptedServer()
    async with server.listening():
        url = server.url.replace("nats://", "tls://") + query
        assert await refusal(url)
        with pytest.raises(Unreachable):
            await asyncio.to_thread(BulkLink, ConnectionUrl.parse(url), "_INBOX.one")
    assert not [line for line in server.seen if "CONNECT" in line or "secret" in line]


@pytest.mark.parametrize("scheme", ["tls", "mqtts"])
async def test_a_missing_file_is_reported_before_anything_connects(scheme: str) -> None:
    with pytest.raises(Refused, match="TLS ca: expected a readable PEM file, got /nowhere"):
        await connect(f"{scheme}://localhost:1?ca=/nowhere").open()


async def test_a_started_process_inherits_the_paths_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIOGRAPH_TLS_CA", "/the/ca")
    monkeypatch.setenv("HELIOGRAPH_SERVER", "nats://me:secret@host")
    process: Any = await World().spawn(["env"], env={}, cwd=str(tmp_path))
    said = (await process.stdout.read()).decode()
    await process.wait()
    assert "HELIOGRAPH_TLS_CA=/the/ca\n" in said
    assert "HELIOGRAPH_SERVER" not in said
