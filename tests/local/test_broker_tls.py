"""Brokers that other machines reach: TLS 1.3 alone, logins, certificates that change while clients stay connected."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import TLS, ConnectionUrl
from heliograph.bus.nats.bulk import BulkLink
from heliograph.bus.transport import Bus
from heliograph.core.certificates import DAY
from heliograph.core.errors import Refused, Unreachable
from heliograph.core.world import World
from heliograph.local.broker_tls import BrokerTls
from heliograph.local.certificates import CERTIFICATE_DAYS, Certificates
from heliograph.local.cluster_tls import Listening
from heliograph.local.mosquitto import Mosquitto
from heliograph.local.mosquitto_door import MosquittoDoor, password_file
from heliograph.local.nats_server import Broker, User
from tests.bus.meeting import with_mosquitto
from tests.conftest import need_mosquitto
from tests.local.exposed import outer_address
from tests.local.websocket_handshake import handshake
from tests.patience import HANGS

NAMES = ("localhost", "127.0.0.1")
USERS = (User("coordinator", "of-coordinator", "coordinator"), User("alice", "of-alice", "user"))
LOGIN = "coordinator:of-coordinator"
KINDS = pytest.mark.parametrize("kind", ["nats", "mqtt", with_mosquitto])
Started = Callable[..., Awaitable["Listener"]]


class Listener:
    """One TLS port of a broker, and how it reads its certificates again."""

    def __init__(self, scheme: str, port: int, ca: Path, login: str, reload: Callable[[], None]) -> None:
        self.scheme, self.port, self.ca, self.login, self.reload = scheme, port, ca, login, reload

    def url(self, host: str = "localhost", ca: Path | None = None, more: str = "") -> str:
        """Return its URL; the login is user and password, or the path of a file of credentials."""
        login, file = ("", f"&credentials={self.login}") if "/" in self.login else (f"{self.login}@", "")
        return f"{self.scheme}://{login}{host}:{self.port}?ca={ca or self.ca}{file}{more}"


def _certificates(directory: Path, *names: str, now: float | None = None) -> Certificates:
    world = World() if now is None else World(now=lambda: now)
    made = Certificates(directory, names or NAMES, world)
    made.client("phone")
    made.renew()
    return made


def _tls(certificates: Certificates, verify: bool = False) -> BrokerTls:
    return BrokerTls(certificates.server, certificates.server_key, TLS(certificates.ca), "localhost", verify)


@pytest.fixture
async def started(kind: str, tmp_path: Path) -> AsyncIterator[Started]:
    """Return ``await started(certificates, verify=False)``, which starts a broker that listens at every address."""
    ending: list[Callable[[], Awaitable[None]]] = []

    async def start(certificates: Certificates, verify: bool = False) -> Listener:
        tls = _tls(certificates, verify)
        if kind == "mosquitto":
            need_mosquitto()
            passwords = tmp_path / "passwords"
            passwords.write_text(password_file({"coordinator": "of-coordinator"}, World()))
            settings = (f"password_file {passwords}", "user root")
            one = Mosquitto(tmp_path / "mosquitto", settings, host="0.0.0.0", tls=tls)
            ending.append(one.kill)
            await one.start()
            return Listener("mqtts", one.port, certificates.ca, LOGIN, one.reload)
        broker = Broker(tmp_path / "broker", "cloud", USERS, host="0.0.0.0", tls=tls)
        ending.append(broker.kill)
        await broker.start()
        scheme, port = {"nats": ("tls", broker.port), "mqtt": ("mqtts", broker.mqtt_port)}[kind]
        login = broker.login_file("coordinator", {"tls": "nats", "mqtts": "mqtt"}[scheme])
        return Listener(scheme, port, certificates.ca, str(login), broker.reload)

    yield start
    for end in ending:
        await end()


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Bus]:
    async with connect(url) as bus:
        await bus.link.wait_up(HANGS)
        yield bus


async def _refusal(url: str) -> str:
    async with connect(url) as bus, asyncio.timeout(HANGS):
        while not bus.last_error:
            await asyncio.sleep(0.01)
        assert not bus.link.up
        return bus.last_error


async def _works(url: str) -> None:
    async with _connected(url) as bus, bus.subscribe("edge/cloud/up/log/#") as messages:
        await bus.publish("edge/cloud/up/log/a/b", b"1")
        async with asyncio.timeout(HANGS):
            assert (await anext(aiter(messages))).body == b"1"


@KINDS
async def test_clients_speak_tls_by_each_name_of_the_certificate(started: Started, kind: str, tmp_path: Path) -> None:
    outer = outer_address()
    names = (*NAMES, *([outer] if outer else []))
    listener = await started(_certificates(tmp_path / "tls", *names))
    for host in names:
        await _works(listener.url(host))


@KINDS
async def test_clear_text_is_refused(
    started: Started, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = await started(_certificates(tmp_path / "tls"))
    clear = {"tls": "nats", "mqtts": "mqtt"}[listener.scheme]
    assert await _refusal(f"{clear}://{LOGIN}@127.0.0.1:{listener.port}")
    await _works(listener.url())


@KINDS
async def test_an_earlier_tls_is_refused(started: Started, kind: str, tmp_path: Path) -> None:
    listener = await started(_certificates(tmp_path / "tls"))
    context = ssl.create_default_context(cafile=listener.ca)
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.close()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="protocol version"):
        await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)


@KINDS
async def test_another_authority_is_refused(started: Started, kind: str, tmp_path: Path) -> None:
    listener = await started(_certificates(tmp_path / "tls"))
    other = _certificates(tmp_path / "other")
    assert "certificate verify failed" in await _refusal(listener.url(ca=other.ca))


@KINDS
async def test_a_certificate_of_another_name_is_refused(started: Started, kind: str, tmp_path: Path) -> None:
    listener = await started(_certificates(tmp_path / "tls", "127.0.0.1", "cloud.example"))
    assert "Hostname mismatch" in await _refusal(listener.url("localhost"))


@KINDS
async def test_an_expired_certificate_is_refused(started: Started, kind: str, tmp_path: Path) -> None:
    then = World().now() - (CERTIFICATE_DAYS + 1) * DAY
    listener = await started(_certificates(tmp_path / "tls", now=then))
    assert "certificate has expired" in await _refusal(listener.url())


@KINDS
async def test_a_client_without_the_certificate_that_is_asked_for_is_refused(
    started: Started, kind: str, tmp_path: Path
) -> None:
    certificates = _certificates(tmp_path / "tls")
    listener = await started(certificates, verify=True)
    assert await _refusal(listener.url())
    foreign = _certificates(tmp_path / "other").client("phone")
    assert await _refusal(listener.url(more=f"&certificate={foreign.certificate}&key={foreign.key}"))
    own = certificates.client("phone")
    await _works(listener.url(more=f"&certificate={own.certificate}&key={own.key}"))


@pytest.mark.parametrize("kind", [with_mosquitto])  # those of a broker in operator mode: tests/bus/test_permissions.py
async def test_a_wrong_password_and_none_are_refused(started: Started, kind: str, tmp_path: Path) -> None:
    listener = await started(_certificates(tmp_path / "tls"))
    for login in ("coordinator:wrong", ""):
        listener.login = login
        url = listener.url().replace("://@", "://")
        async with connect(url) as bus, asyncio.timeout(HANGS):
            while not bus.link.refused:
                await asyncio.sleep(0.01)


@KINDS
async def test_an_authority_follows_another_while_clients_stay_connected(
    started: Started, kind: str, tmp_path: Path
) -> None:
    certificates = _certificates(tmp_path / "tls")
    listener = await started(certificates)
    copy = tmp_path / "copy.pem"  # that of a client on another machine
    copy.write_text(certificates.ca.read_text())
    old = tmp_path / "old.pem"
    old.write_text(certificates.ca.read_text())
    async with _connected(listener.url()) as staying, staying.subscribe("edge/cloud/up/log/#") as messages:
        went_down = asyncio.Event()
        staying.link.listen(lambda up: None if up else went_down.set())
        certificates.add_authority()
        copy.write_text(certificates.ca.read_text())
        (certificates.directory / "authority-1.pem").unlink()
        assert certificates.renew()
        listener.reload()
        async with asyncio.timeout(HANGS):
            while "certificate verify failed" not in await _refusal_or_none(listener.url(ca=old)):
                await asyncio.sleep(0.05)  # until the broker has read the new certificate
        await _works(listener.url(ca=copy))
        await staying.publish("edge/cloud/up/log/a/b", b"still")
        async with asyncio.timeout(HANGS):
            while (await anext(aiter(messages))).body != b"still":
                pass
        assert not went_down.is_set()


async def _refusal_or_none(url: str) -> str:
    """Return why a connection is refused; empty where it is not."""
    async with connect(url) as bus, asyncio.timeout(HANGS):
        while not bus.link.up and not bus.last_error:
            await asyncio.sleep(0.01)
        return "" if bus.link.up else bus.last_error


@pytest.mark.parametrize("kind", ["nats", "mqtt"])
async def test_a_client_reads_its_files_again_when_it_reconnects(started: Started, kind: str, tmp_path: Path) -> None:
    certificates = _certificates(tmp_path / "tls")
    listener = await started(certificates)
    async with connect(listener.url(ca=_certificates(tmp_path / "other").ca)) as bus:
        with contextlib.suppress(Unreachable):
            await bus.link.wait_up(0.3)
        assert not bus.link.up
        (tmp_path / "other" / "ca.pem").write_text(certificates.ca.read_text())
        await bus.link.wait_up(HANGS)


@pytest.mark.parametrize("kind", ["nats"])
async def test_a_bulk_link_shakes_hands_first(started: Started, kind: str, tmp_path: Path) -> None:
    listener = await started(_certificates(tmp_path / "tls"))
    link = await asyncio.to_thread(BulkLink, ConnectionUrl.parse(listener.url()), "_INBOX.coordinator.x")
    assert link.max_payload > 0
    async with asyncio.timeout(HANGS):
        while not await asyncio.to_thread(select.select, [link._socket], [], [], 0.1):
            pass  # until the broker's ping
    assert link.alive
    link.publish("heliograph.edge.cloud.up.log.a.b", b"x")
    link.close()
    with pytest.raises(Unreachable, match="certificate verify failed"):
        url = listener.url(ca=_certificates(tmp_path / "other").ca)
        await asyncio.to_thread(BulkLink, ConnectionUrl.parse(url), "_INBOX.coordinator.x")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", outer_address() or "192.0.2.7"])
@pytest.mark.parametrize(("users", "secured", "lacking"), [(True, False, "TLS"), (False, True, "logins")])
async def test_no_broker_listens_unprotected_beyond_loopback(
    tmp_path: Path, host: str, users: bool, secured: bool, lacking: str
) -> None:
    tls = _tls(_certificates(tmp_path / "tls")) if secured else None
    message = f"field host: expected 127.0.0.1, or TLS and logins, got {host} without {lacking}"
    with pytest.raises(Refused) as refused:
        await Broker(tmp_path / "broker", "cloud", USERS if users else (), host=host, tls=tls).start()
    assert message in str(refused.value)
    assert refused.value.code == "insecure"
    settings = ("password_file /nowhere",) if users else ()
    with pytest.raises(Refused) as refused:
        await Mosquitto(tmp_path / "mosquitto", settings, host=host, tls=tls).start()
    assert message in str(refused.value)


async def test_insecure_must_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_INSECURE", "1")
    broker = Broker(tmp_path, "cloud", USERS, host="0.0.0.0")
    await broker.start()
    try:
        await _works(broker.url("coordinator"))
    finally:
        await broker.kill()


def test_a_broker_beyond_loopback_has_quotas_and_no_anonymous_clients(tmp_path: Path) -> None:
    tls = _tls(_certificates(tmp_path / "tls"))
    broker = Broker(tmp_path, "node", USERS, host="0.0.0.0", tls=tls)
    broker.issue_logins()
    tree = json.loads(broker.config())
    assert not {"no_auth_user", "default_sentinel"} & tree.keys()
    assert min(tree[name] for name in ("max_connections", "max_subscriptions", "max_payload", "max_pending")) > 0
    assert tree["tls"]["connection_rate_limit"] > 0
    assert tree["tls"]["handshake_first"] is True
    assert {tree[name]["min_version"] for name in ("tls",)} == {tree["mqtt"]["tls"]["min_version"]} == {"1.3"}


async def test_a_websocket_is_tls_alone(tmp_path: Path) -> None:
    certificates = _certificates(tmp_path / "tls")
    broker = Broker(tmp_path / "broker", "cloud", USERS, host="0.0.0.0", tls=_tls(certificates), websocket=True)
    await broker.start()
    try:
        assert await handshake(broker.websocket_port, path="/mqtt", tls=TLS(certificates.ca).context()) == 101
        assert await handshake(broker.websocket_port, path="/mqtt") == 400
        earlier = ssl.create_default_context(cafile=certificates.ca)
        earlier.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="protocol version"):
            await handshake(broker.websocket_port, tls=earlier)
    finally:
        await broker.kill()


@pytest.mark.mosquitto
async def test_mosquittos_door_beyond_loopback(tmp_path: Path) -> None:
    need_mosquitto()
    certificates = _certificates(tmp_path / "tls")
    door = MosquittoDoor(tmp_path / "door", USERS, World(), "0.0.0.0", _tls(certificates))
    await door.start()
    try:
        assert door.url("alice") == f"mqtts://alice:of-alice@127.0.0.1:{door.broker.port}?ca={certificates.ca}"
        async with _connected(door.url("alice")):
            pass
        async with connect(door.url()) as bus, asyncio.timeout(HANGS):
            while not bus.link.refused:
                await asyncio.sleep(0.01)
    finally:
        await door.stop()


@pytest.mark.parametrize(("listening", "tls"), [
    (Listening(), False), (Listening("::1"), False), (Listening("127.0.0.2"), False), (Listening("0.0.0.0"), True),
    (Listening("192.0.2.7"), True), (Listening(names=("cloud.example",)), True),
    (Listening(client_certificates=True), True),
])  # fmt: skip
def test_only_loopback_may_be_clear_text(listening: Listening, tls: bool) -> None:
    assert listening.tls is tls


def test_the_first_name_stands_in_urls() -> None:
    assert Listening("192.0.2.7").public_names[0] == "192.0.2.7"
    assert Listening("0.0.0.0", ("cloud.example", "192.0.2.7")).public_names == ("cloud.example", "192.0.2.7")
    assert Listening("0.0.0.0").public_names
