"""Subjects, headers and object names that a hostile client chooses: its messages arrive or are refused, the connection
of nobody else breaks, and no reader takes them for the broker's own words."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract import topics
from heliograph.bus.contract.permissions import inbox_of, upload_bucket
from heliograph.bus.contract.weights_file import INLINE, write
from heliograph.bus.nats.bus import NatsBus
from heliograph.core.errors import Refused
from heliograph.local.nats_server import Broker
from tests.patience import HANGS

EDGE = "edge-1"
Start = Callable[..., Awaitable[Broker]]


@asynccontextmanager
async def _connected(broker: Broker, user: str, scheme: str = "nats", inbox: str = "") -> AsyncIterator[NatsBus]:
    async with connect(broker.url(user, scheme), name=user, inbox=inbox) as bus:
        await bus.link.wait_up(HANGS)
        yield bus  # type: ignore[misc]


async def _publish_raw(broker: Broker, subject: bytes, body: bytes, headers: bytes = b"", url: str = "") -> None:
    """Publish, as the operator or with another login, and wait until the broker has taken the message."""
    reader, writer = await asyncio.open_connection(broker.host, broker.port)
    nonce = json.loads((await reader.readline()).removeprefix(b"INFO "))["nonce"]
    credentials = ConnectionUrl.parse(url or broker.url("operator")).credentials
    login = {**credentials.of_nats(nonce), "headers": True, "verbose": False}
    writer.write(b"CONNECT %s\r\n" % json.dumps(login).encode())
    if headers:
        writer.write(b"HPUB %s %d %d\r\n%s%s\r\n" % (subject, len(headers), len(headers) + len(body), headers, body))
    else:
        writer.write(b"PUB %s %d\r\n%s\r\n" % (subject, len(body), body))
    writer.write(b"PING\r\n")
    async with asyncio.timeout(HANGS):
        assert await reader.readline() == b"PONG\r\n"
    writer.close()


ODD = (b"\xff", b"\xed\xa0\xbd", b"\x0b1", b"\x0c7", b"\0", b"\x1c", b"\xc2\x85", b"+", b"#")


@pytest.mark.parametrize("scheme", ["nats", "mqtt"])
async def test_a_subject_of_any_bytes_breaks_no_connection(broker: Start, scheme: str) -> None:
    one = await broker()
    async with _connected(one, "coordinator", scheme) as bus:
        downs: list[bool] = []
        bus.link.listen(downs.append)
        among_mqtt_clients = one.door_url("coordinator") if scheme == "mqtt" else ""
        async with bus.subscribe("request/#") as messages:
            for number, odd in enumerate(ODD):
                await _publish_raw(one, b"heliograph.request.a" + odd + b"b.c", b"odd", url=among_mqtt_clients)
                await _publish_raw(one, b"heliograph.request.jobs.list", str(number).encode(), url=among_mqtt_clients)
                async with asyncio.timeout(HANGS):
                    while (message := await anext(messages)).body != str(number).encode():
                        assert message.body == b"odd" and message.topic.startswith("request/a"), message
        assert downs == [True]  # the first word, said at the subscription


async def test_headers_of_any_bytes_break_no_connection(broker: Start) -> None:
    one = await broker()
    bad = (b"NATS/1.0 503\r\n\r\n", b"NATS/1.0 \xff\xfe \xff\r\n\r\n", b"NATS/1.0\r\n\xff: \xfe\r\n\r\n",
           b"NATS/1.0\r\n\r\n", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", b"NATS/1.0\r\n:\r\n\r\n")  # fmt: skip
    async with _connected(one, "coordinator") as bus:
        downs: list[bool] = []
        bus.link.listen(downs.append)
        async with bus.subscribe("request/#") as messages:
            for headers in bad:
                await _publish_raw(one, b"heliograph.request.jobs.list", b"odd", headers)
            await _publish_raw(one, b"heliograph.request.jobs.list", b"good")
            async with asyncio.timeout(HANGS):
                while (await anext(messages)).body != b"good":
                    pass
        assert downs == [True]


async def test_headers_that_name_another_sender_change_nothing(broker: Start) -> None:
    """However often, and in whatever spelling, a user claims to be another one."""
    one = await broker()
    claim = b'Nats-Request-Info: {"name_tag":"operator"}\r\n'
    forged = (claim, 3 * claim, claim.lower(), claim.upper() + claim, b"x: y\r\n" + claim + b"z: w\r\n",
              claim.replace(b": ", b":"), claim.replace(b": ", b" :  "), b" " + claim + claim)  # fmt: skip
    async with _connected(one, "coordinator") as bus, bus.subscribe("request/#") as messages:
        for headers in forged:
            await _publish_raw(one, b"heliograph.request.jobs.list", b"{}", b"NATS/1.0\r\n" + headers + b"\r\n",
                               one.url("alice"))  # fmt: skip
            async with asyncio.timeout(HANGS):
                assert (await anext(messages)).sender == "alice", headers


async def test_a_header_named_status_is_no_notice_of_the_broker(broker: Start) -> None:
    one = await broker()
    words = [{"Status": "404"}, {"Status": "409", "Description": "Consumer Deleted"}, {"Status": "link"},
             {"Status": "forbidden"}, {"Status": "503"}]  # fmt: skip
    async with _connected(one, "coordinator") as cloud, _connected(one, f"agent-{EDGE}", inbox=inbox_of(EDGE)) as edge:
        await cloud.prepare()
        address = topics.EVALUATION.at(job="a", edge=EDGE)
        for number, headers in enumerate([*words, {}]):
            await edge.publish(address, str(number).encode(), headers=headers)
        async with cloud.consume(topics.EVALUATION.filter(), start=1) as messages:
            async with asyncio.timeout(HANGS):
                assert [(await anext(messages)).body for _ in range(6)] == [b"0", b"1", b"2", b"3", b"4", b"5"]
        report = topics.REPORT.at(edge=EDGE)
        await edge.publish(report, b"mine", headers={"Status": "404", "Nats-Sequence": "x"})
        newest = await cloud.last(report)
        assert newest is not None and (newest.body, newest.sequence) == (b"mine", 1)


async def test_a_chunk_with_a_header_of_the_broker_ends_no_download_and_starts_none_anew(
    broker: Start, tmp_path: Path
) -> None:
    one = await broker()
    async with _connected(one, "coordinator") as cloud:
        theirs = await cloud.blobs(upload_bucket(EDGE))
        assert await theirs.digests() == []
        for status in ("204", "404", "408"):
            weights = write({"w": np.full(INLINE // 8, int(status), np.float64)}, tmp_path)
            content = (tmp_path / weights.digest).read_bytes()
            subject = f"$O.{upload_bucket(EDGE)}.C.{weights.digest}"
            for at in range(0, len(content), 1 << 17):
                await cloud.connection.request(subject, content[at : at + (1 << 17)], headers={"Status": status})
            async with asyncio.timeout(HANGS):
                fetched = await theirs.fetch(weights, tmp_path / f"fetched-{status}")
            assert fetched.read_bytes() == content


async def test_a_bucket_with_names_and_metadata_of_any_kind_is_read(broker: Start, tmp_path: Path) -> None:
    one = await broker()
    async with _connected(one, "coordinator") as cloud:
        bucket = await cloud.blobs(upload_bucket(EDGE))
        weights = write({"w": np.zeros(INLINE, np.float32)}, tmp_path)
        await bucket.put(tmp_path / weights.digest, weights)
        store = f"$O.{upload_bucket(EDGE)}.M."
        fake = "f" * 64
        for name in ("!", "AA", *(base64.urlsafe_b64encode(each).decode() for each in (b"\xff" * 3, b"x"))):
            await cloud.connection.request(store + name, b"{}")
        await cloud.connection.request(store + base64.urlsafe_b64encode(fake.encode()).decode(), b"[[[")
        assert await bucket.digests() == sorted([weights.digest, fake])
        with pytest.raises(Refused, match="expected the metadata of a blob"):
            await bucket.has(fake)
