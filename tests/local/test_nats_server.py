"""The embedded broker's listeners and limits."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.local import nats_server
from heliograph.local.nats_server import Broker, User
from tests.local.websocket_handshake import handshake
from tests.patience import HANGS

USERS = (User("coordinator", "of-coordinator", "coordinator"), User("alice", "of-alice", "user"))


@asynccontextmanager
async def running(broker: Broker) -> AsyncIterator[Broker]:
    await broker.start()
    try:
        yield broker
    finally:
        await broker.kill()


async def test_no_websocket_without_being_asked(tmp_path: Path) -> None:
    async with running(Broker(tmp_path, "cloud", USERS)):
        assert "websocket" not in json.loads((tmp_path / "nats.conf").read_text())
        assert "Listening for websocket" not in (tmp_path / "nats.log").read_text()


@pytest.mark.parametrize("path", ["/", "/mqtt"])
async def test_a_page_of_a_foreign_origin_is_refused(tmp_path: Path, path: str) -> None:
    async with running(Broker(tmp_path, "cloud", USERS, websocket=True)) as broker:
        port = broker.websocket_port
        assert await handshake(port, "https://evil.example", path) == 403
        assert await handshake(port, f"http://127.0.0.1:{port + 1}", path) == 403
        assert await handshake(port, "null", path) == 403
        assert await handshake(port, f"http://127.0.0.1:{port}", path) == 101
        assert await handshake(port, "", path) == 101  # no browser


async def test_a_page_of_an_allowed_origin_is_accepted(tmp_path: Path) -> None:
    origins = ("https://app.example", "http://127.0.0.1:8080")
    async with running(Broker(tmp_path, "cloud", USERS, websocket=True, websocket_origins=origins)) as broker:
        assert [await handshake(broker.websocket_port, each) for each in origins] == [101, 101]
        for origin in ("https://evil.example", "http://app.example", "https://app.example.evil.example",
                       "https://app.example:444", "null"):  # fmt: skip
            assert await handshake(broker.websocket_port, origin) == 403, origin


async def _refusal(broker: Broker, *lines: str) -> str:
    """Log in as alice, send lines, and return the broker's error; empty if it has none before it answers a ping."""
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    try:
        login = ConnectionUrl.parse(broker.url("alice")).credentials
        info = (await reader.readline()).decode()
        if not info.startswith("INFO"):
            return info.strip()
        nonce = json.loads(info.removeprefix("INFO ")).get("nonce", "")
        hello = json.dumps({**login.of_nats(nonce), "verbose": False})
        writer.write("\r\n".join([f"CONNECT {hello}", *lines, "PING", ""]).encode())
        async with asyncio.timeout(HANGS):
            async for line in reader:
                if line.startswith((b"-ERR", b"PONG")):
                    return line.decode().strip().removeprefix("PONG")
        raise AssertionError("the connection ended without a word")
    finally:
        writer.close()


async def test_a_connection_opens_no_more_subscriptions_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_server, "MAX_SUBSCRIPTIONS", 10)
    async with running(Broker(tmp_path, "cloud", USERS)) as broker:
        for count, expected in ((10, ""), (11, "-ERR 'maximum subscriptions exceeded'")):
            lines = [f"SUB heliograph.status.jobs.{number} {number}" for number in range(count)]
            assert await _refusal(broker, *lines) == expected


async def test_a_broker_takes_no_more_connections_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_server, "MAX_CONNECTIONS", 1)
    async with running(Broker(tmp_path, "cloud", USERS)) as broker, connect(broker.url("coordinator")) as one:
        await one.link.wait_up(HANGS)
        assert await _refusal(broker) == "-ERR 'maximum connections exceeded'"


def test_the_limits_leave_room_for_ten_thousand_edges(tmp_path: Path) -> None:
    broker = Broker(tmp_path, "cloud", USERS)
    broker.issue_logins()
    config = json.loads(broker.config())
    assert config["max_connections"] >= 2 * 10_000
    assert config["max_subscriptions"] >= 1000
    assert config["max_pending"] >= nats_server.MAX_PAYLOAD


async def test_streams_of_an_earlier_version_are_those_of_the_accounts_now(tmp_path: Path) -> None:
    """Before 0.2 all were in one account, as they are on a node's broker, and it had a fixed name."""
    event, status = "edge/edge-1/up/report", "status/jobs/one"
    async with running(Broker(tmp_path, "node", USERS)) as broker:
        async with connect(broker.url("coordinator")) as cloud, connect(broker.url("coordinator", "mqtt")) as door:
            await cloud.link.wait_up(HANGS)
            await cloud.prepare()
            await cloud.publish(event, b"before")
            await door.link.wait_up(HANGS)
            await door.publish(status, b"kept", retain=True)
    (account,) = [path for path in (tmp_path / "store" / "jetstream").iterdir() if path.name.startswith("A")]
    account.rename(account.with_name("HELIOGRAPH"))
    shutil.rmtree(broker.identity)
    for expected in (b"before", b"after"):  # the second start moves nothing
        async with running(Broker(tmp_path, "cloud", USERS)) as broker:
            async with connect(broker.url("coordinator")) as cloud, connect(broker.url("coordinator", "mqtt")) as door:
                await cloud.link.wait_up(HANGS)
                found = await cloud.last(event)
                assert found is not None
                assert found.body == expected
                await cloud.prepare()
                await cloud.publish(event, b"after")
                await door.link.wait_up(HANGS)
                async with door.subscribe("status/#") as statuses, asyncio.timeout(HANGS):
                    message = await anext(statuses)
                assert (message.topic, message.body, message.retained) == (status, b"kept", True)
    assert not (tmp_path / "store" / "jetstream" / "HELIOGRAPH").exists()
