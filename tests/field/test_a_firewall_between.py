"""A node behind a firewall: one port, by WebSocket, or an HTTP proxy. Messages and blobs both pass."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.nats.bulk import BulkLink
from heliograph.core.errors import Refused, Unreachable
from heliograph.local.nats_server import Broker, free_ports
from tests.bus.authority import Authority
from tests.bus.nats.http_proxy import http_proxy
from tests.bus.test_tls import TlsBroker, carries_blobs, carries_messages
from tests.bus.test_tls import authority as authority
from tests.conftest import USERS
from tests.field.test_the_address_is_wrong import at_once as at_once
from tests.field.test_the_address_is_wrong import reason
from tests.patience import HANGS

LOGIN = "coordinator:of-coordinator@localhost"
Start = Callable[[], Awaitable["OnePort"]]


@dataclass
class OnePort(TlsBroker):
    """A server that also speaks WebSocket by TLS."""

    def config(self) -> str:
        tree = json.loads(super().config())
        tree["websocket"] = {"host": self.host, "port": self.websocket_port, "tls": tree["tls"] | {"verify": False}}
        del tree["websocket"]["tls"]["handshake_first"]
        return json.dumps(tree)

    def at(self, scheme: str) -> str:
        port = self.websocket_port if scheme == "wss" else self.port
        return f"{scheme}://{LOGIN}:{port}{'/nats' if scheme == 'wss' else ''}?ca={self.ca}"


@pytest.fixture
async def server(tmp_path: Path, authority: Authority) -> AsyncIterator[OnePort]:
    certificate, key = authority.certificate("server", "DNS:localhost")
    made = OnePort(tmp_path / "broker", "node", USERS, ca=authority.ca, certificate=certificate, key=key,
                   websocket=True)  # fmt: skip
    await made.start()
    yield made
    await made.kill()


async def test_messages_and_blobs_travel_by_the_one_port(server: OnePort, tmp_path: Path) -> None:
    await carries_messages(server.at("wss"))
    await carries_blobs(server.at("wss"), tmp_path)


@pytest.mark.parametrize("scheme", ["tls", "wss"])
async def test_messages_and_blobs_travel_by_a_proxy(server: OnePort, tmp_path: Path, scheme: str) -> None:
    async with http_proxy(login="site:p@ss") as proxy:
        url = f"{server.at(scheme)}&proxy=http%3A%2F%2Fsite%3Ap%2540ss%40127.0.0.1%3A{proxy.port}"
        assert "p@ss" not in ConnectionUrl.parse(url).shown and "p@ss" not in repr(ConnectionUrl.parse(url))
        await carries_messages(url)
        await carries_blobs(url, tmp_path)
    port = server.websocket_port if scheme == "wss" else server.port
    assert set(proxy.asked) == {f"localhost:{port}"} and len(proxy.asked) >= 4


async def test_the_environment_names_the_proxy_of_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_PROXY", "http://proxy.example:3128")
    assert ConnectionUrl.parse("tls://cloud.example").proxy is not None
    for own in ("nats://127.0.0.1:4222", "mqtts://cloud.example"):
        assert ConnectionUrl.parse(own).proxy is None
    other = ConnectionUrl.parse("tls://cloud.example?proxy=http://10.0.0.1:8080").proxy
    assert other is not None and other.shown == "10.0.0.1:8080"


async def test_a_proxy_that_leads_elsewhere_alone_is_named(server: OnePort) -> None:
    async with http_proxy(allowed=(443,)) as proxy:
        line = await reason(f"{server.at('tls')}&proxy=http://127.0.0.1:{proxy.port}")
        assert f"the proxy 127.0.0.1:{proxy.port} does not lead to localhost:{server.port}: HTTP/1.1 403" in line
        with pytest.raises(Unreachable, match="does not lead to"):
            await asyncio.to_thread(
                BulkLink, ConnectionUrl.parse(f"{server.at('tls')}&proxy=http://127.0.0.1:{proxy.port}")
            )


async def test_a_proxy_wants_a_login(server: OnePort) -> None:
    async with http_proxy(login="site:secret") as proxy:
        assert "wants a login" in await reason(f"{server.at('wss')}&proxy=http://127.0.0.1:{proxy.port}")
        wrong = f"{server.at('wss')}&proxy=http://site%3Aguess%40127.0.0.1:{proxy.port}"
        assert "wants a login" in (line := await reason(wrong)) and "guess" not in line


async def test_the_proxy_itself_is_away_or_is_none(server: OnePort) -> None:
    (port,) = free_ports(1)
    line = await reason(f"{server.at('tls')}&proxy=http://127.0.0.1:{port}")
    assert f"the proxy 127.0.0.1:{port} cannot be reached" in line and "Mend its address, or leave it out" in line
    line = await reason(f"{server.at('tls')}&proxy=http://127.0.0.1:{server.port}")
    assert "is no HTTP proxy" in line or "does not answer" in line


async def test_what_listens_speaks_no_websocket(server: OnePort, authority: Authority) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as other:
        line = await reason(f"ws://127.0.0.1:{other.sockets[0].getsockname()[1]}/nats")
    assert "no WebSocket is opened" in line and "404" in line


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://127.0.0.1", "proxy:3128", "http://p:0", "http://[::1"])
def test_other_proxies_are_refused(proxy: str) -> None:
    with pytest.raises(Refused, match=r"proxy.*expected http://HOST:PORT"):
        ConnectionUrl.parse(f"tls://cloud.example?proxy={proxy}")


def test_a_nodes_broker_has_no_proxy() -> None:
    with pytest.raises(Refused, match="parameters"):
        ConnectionUrl.parse("mqtts://broker.example?proxy=http://127.0.0.1:3128")


@pytest.mark.parametrize("scheme", ["nats", "mqtt", "ws"])
async def test_a_broker_at_an_ipv6_address_carries_messages(tmp_path: Path, scheme: str) -> None:
    made = Broker(tmp_path / "broker", "node", USERS, host="::1", websocket=True)
    await made.start()
    try:
        url = made.url("coordinator", "mqtt" if scheme == "mqtt" else "nats")
        assert "[::1]" in url
        if scheme == "ws":
            url = url.replace(f"nats://[::1]:{made.port}", made.websocket_url)
        async with connect(url) as bus, asyncio.timeout(HANGS):
            await bus.link.wait_up()
            async with bus.subscribe("edge/+/up/log/#") as messages:
                await bus.publish("edge/a/up/log/agent/b", b"1")
                assert (await anext(messages)).body == b"1"
    finally:
        await made.kill()
