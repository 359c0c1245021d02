"""A node whose cloud, or whose broker, cannot be reached: each reason is said once, with what to do about it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from heliograph.bus import link_watch
from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.link import Link
from heliograph.bus.link_trouble import trouble_of
from heliograph.bus.link_watch import LinkWatch
from heliograph.core.world import World
from heliograph.local.nats_server import free_ports
from tests.bus.authority import Authority
from tests.bus.test_tls import Secured, kinds
from tests.bus.test_tls import authority as authority
from tests.bus.test_tls import secured as secured
from tests.patience import HANGS

BOTH = pytest.mark.parametrize("scheme", ["nats", "mqtt"])


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_watch, "FIRST_GRACE", 0.0)
    monkeypatch.setattr(link_watch, "GRACE", 0.0)


@asynccontextmanager
async def watched(url: str) -> AsyncIterator[asyncio.Queue[str]]:
    """Yield what is said of a connection to this URL."""
    said: asyncio.Queue[str] = asyncio.Queue()
    bus = connect(url, world=(world := World()))
    LinkWatch(bus.link, url, "the cloud", "this node goes on without it", world, said.put_nowait,
              said.put_nowait).begin()  # fmt: skip
    async with bus, asyncio.timeout(HANGS):
        yield said


async def reason(url: str) -> str:
    """Return what is said first, once a second failure has said nothing more."""
    async with watched(url) as said:
        line = await said.get()
        bus = connect(url, world=World())
        failures: asyncio.Queue[BaseException] = asyncio.Queue()
        bus.link.on_failure(failures.put_nowait)
        async with bus:
            for _ in range(2):
                await failures.get()
        assert said.empty()
    assert line.startswith(f"the cloud at {ConnectionUrl.parse(url).shown} is not reached: ")
    assert line.endswith("It is tried again and again; this node goes on without it.")
    return line


@BOTH
async def test_the_port_is_wrong(scheme: str) -> None:
    (port,) = free_ports(1)
    assert f"nothing listens at 127.0.0.1:{port}. Start the" in await reason(f"{scheme}://127.0.0.1:{port}")


@BOTH
async def test_the_address_is_ipv6_and_nothing_listens_there(scheme: str) -> None:
    (port,) = free_ports(1)
    assert f"at [::1]:{port}" in await reason(f"{scheme}://[::1]:{port}")


@BOTH
async def test_the_name_is_misspelt(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    secure = {"nats": "tls", "mqtt": "mqtts"}[scheme]
    line = await reason(f"{secure}://clowd.example:4222")
    assert "the name clowd.example is not known here. Check its spelling, and this machine's DNS" in line


@BOTH
async def test_another_service_has_the_port(scheme: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        line = await reason(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert "is no NATS server" in line or "ends the connection before it answers" in line


@pytest.mark.parametrize("kind", ["nats", "mqtt-on-nats"])
async def test_the_password_is_wrong(secured: Secured, authority: Authority) -> None:
    url = (await secured()).replace(":of-coordinator@", ":another-word@")
    line = await reason(f"{url}?ca={authority.ca}")
    assert "refuses this login" in line and "Check user and password" in line and "another-word" not in line


@kinds
async def test_the_certificate_is_signed_by_somebody_else(secured: Secured, authority: Authority) -> None:
    line = await reason(f"{await secured()}?ca={Authority(authority.directory / 'other').ca}")
    assert "is signed by nobody whom this client trusts. Name the file of the cloud's authority by ?ca=FILE" in line


@kinds
async def test_the_certificate_is_for_another_name(secured: Secured, authority: Authority) -> None:
    line = await reason(f"{(await secured()).replace('localhost', '127.0.0.1')}?ca={authority.ca}")
    assert "is not for the name 127.0.0.1. Write the name that it has into the URL" in line


@kinds
async def test_the_broker_wants_a_certificate(secured: Secured, authority: Authority) -> None:
    line = await reason(f"{await secured(verify=True)}?ca={authority.ca}")
    assert "wants a certificate of this client" in line or "ends the connection before it answers" in line


@kinds
async def test_the_url_asks_for_no_tls(secured: Secured, kind: str) -> None:
    url = (await secured(first=False)).replace("mqtts://", "mqtt://").replace("tls://", "nats://")
    line = await reason(url)
    assert any(words in line for words in ("without TLS", "ends the connection", "signed by nobody"))


async def test_a_network_that_takes_everything_and_answers_nothing() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert f"127.0.0.1:{port} does not answer" in await reason(f"nats://127.0.0.1:{port}")


@pytest.mark.parametrize(("code", "kind", "words"), [
    (9, "not-yet-valid", "Set the clock: one without a battery begins in the past"),
    (10, "certificate-expired", "Renew it in the cloud"),
    (18, "untrusted", "?ca=FILE"),
    (62, "other-name", "the name that it has"),
    (23, "certificate", "openssl s_client"),
])  # fmt: skip
def test_each_fault_of_a_certificate_has_its_own_advice(code: int, kind: str, words: str) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    wrapped = RuntimeError("the library's own words")
    wrapped.__cause__ = error
    found = trouble_of(wrapped, ConnectionUrl.parse("tls://cloud.example:4222"))
    assert found.kind == kind and words in str(found)


def test_whatever_the_error_it_is_a_sentence() -> None:
    url = ConnectionUrl.parse("tls://one.example,two.example:4223")
    for error in (OSError(), TimeoutError(), EOFError(), ValueError("odd"), ExceptionGroup("", [OSError(111, "no")]),
                  RuntimeError("nats: 'user authentication expired'"), None):  # fmt: skip
        assert str(trouble_of(error, url)).endswith(".")


def test_reasons_are_told_once_until_the_link_was_up() -> None:
    said: list[str] = []
    link = Link()
    LinkWatch(link, "nats://127.0.0.1:4222", "the cloud", "", World(), said.append, said.append).begin()
    refused, unknown = ConnectionRefusedError(111, "refused"), socket.gaierror(-2, "unknown")
    for error in (refused, refused, unknown, refused, unknown):
        link.fail(error)
    assert len(said) == 2
    link.set(True)
    assert said[2:] == ["the cloud at nats://127.0.0.1:4222 is reached again"]
    link.fail(refused)  # a refusal of one message, say
    link.set(False)
    link.fail(refused)
    assert len(said) == 4


def test_a_broker_that_starts_again_is_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_watch, "GRACE", 60.0)
    said: list[str] = []
    link = Link()
    LinkWatch(link, "nats://127.0.0.1:4222", "the cloud", "", World(), said.append, said.append).begin()
    for up in (True, False):
        link.set(up)
    link.fail(ConnectionRefusedError(111, "refused"))
    link.set(True)
    assert said == []
