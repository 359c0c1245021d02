"""What devices publish lies in the journal and in the cloud as it was, once: every payload of the collection, retained
or not, while their agent is killed; and the events of devices that count them as they like."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio

from heliograph.bus.contract.event import Event, decode, parse
from heliograph.bus.contract.topics import ACK, DEFAULT_ROOT, TELEMETRY
from heliograph.client import AsyncClient
from heliograph.core.mosquitto_limits import LINES
from heliograph.local.cluster import LocalCluster
from heliograph.local.mosquitto import Mosquitto
from tests.conftest import need_mosquitto
from tests.field.plain_mqtt import PlainMqtt
from tests.patience import HANGS

pytestmark = [pytest.mark.process, pytest.mark.mosquitto, pytest.mark.asyncio(loop_scope="module")]
FILE = Path(__file__).parent.parent / "data/field/devices/payloads.json"
PAYLOADS: dict[str, bytes] = {name: base64.b64decode(text) for name, text in json.loads(FILE.read_bytes()).items()}
NODES = ("edge-1", "edge-2")
"""The devices of the first have a mosquitto, those of the second the embedded nats-server."""
TREE, TEXT, BINARY, GZIP = "", "text/plain", "application/octet-stream", "application/gzip"
EVENT = "application/cloudevents+json"
KINDS: Mapping[str, Sequence[str]] = {
    TREE: (
        "object", "number", "integer", "json string", "true", "null", "array", "array of objects", "utf8 bom",
        "utf16le bom", "utf16be", "utf32", "utf8", "msgpack map", "msgpack timestamp ext", "msgpack bin", "bigint 2^63",
        "bigint 2^64-1", "nul char", "trailing newline", "empty key", "field sequence", "specversion as sensor field",
    ),
    TEXT: (
        "text ON", "csv", "line protocol", "empty", "spaces", "NaN", "Infinity", "nan lower", "1e999", "-1e999",
        "bigint 2^64", "bigint -2^63-1", "lone surrogate", "lone surrogate key", "raw control", "deep 200",
        "deep list 600", "dup keys", "trailing comma", "truncated", "two docs", "ndjson", "single quotes", "comment",
    ),
    BINARY: ("latin1", "cbor map", "protobuf", "float32 le", "msgpack int keys", "trailing nul"),
    GZIP: ("gzip",),
    EVENT: (
        "field specversion 0.3", "ce minimal", "ce array data", "ce text data", "ce no data", "ce base64",
        "ce sequence foreign source", "ce sequence int foreign", "ce sequence string partition", "ce huge id",
    ),
}  # fmt: skip
"""Content type to the payloads that have it."""
TYPES = {name: kind for kind, names in KINDS.items() for name in names}


@dataclass
class Field:
    """A cluster, and the ports of its nodes' brokers."""

    cluster: LocalCluster
    client: AsyncClient
    ports: Mapping[str, int]
    rounds: int = 0

    async def publish(self, edge: str, messages: Sequence[tuple[str, bytes]], retain: bool = False) -> None:
        """Publish at QoS 1, each message once the broker has acknowledged the one before."""
        device = await PlainMqtt.by_tcp(self.ports[edge], 4096)
        await device.connect(f"devices-of-{edge}")
        for name, body in messages:
            await device.publish(f"{DEFAULT_ROOT}/{TELEMETRY.at(edge=edge, device=name)}", body, qos=1, retain=retain)
        device.close()

    async def publish_last(self, edge: str) -> str:
        """Publish a numbered event behind all others, and return its device once the agent has acknowledged it."""
        self.rounds += 1
        last = f"last-{self.rounds}"
        numbered = own_event(edge, last, "life", 1)
        async with aiomqtt.Client("127.0.0.1", self.ports[edge]) as device, asyncio.timeout(HANGS):
            await device.subscribe(f"{DEFAULT_ROOT}/{ACK.at(producer=last)}")
            await device.publish(f"{DEFAULT_ROOT}/{TELEMETRY.at(edge=edge, device=last)}", numbered, qos=1)
            await anext(aiter(device.messages))
        return last

    def journalled(self, edge: str) -> list[tuple[str, bytes]]:
        """Return device and bytes of each event in the agent's journal, in order."""
        file = self.cluster.nodes[edge].state / "journal.db"
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as journal:
            rows = journal.execute("SELECT topic, body FROM events ORDER BY id").fetchall()
        return [(topic.rpartition("/")[2], body) for topic, body in rows if topic.startswith("event/telemetry/")]

    async def stored(self, edge: str, last: str) -> list[tuple[str, bytes]]:
        """Return device and bytes of each event that the cloud has, up to the one that was published last."""
        return await self._stored(edge, lambda found: bool(found) and found[-1][0] == last)

    async def stored_with(self, edge: str, devices: Iterable[str], times: int) -> list[tuple[str, bytes]]:
        """Return them once each device is among them so many times, with all that was published meanwhile:
        nats-server sends again later what an agent had not acknowledged."""
        wanted = dict.fromkeys(devices, times)
        await self._stored(edge, lambda found: Counter(device for device, _ in found) >= Counter(wanted))
        return await self.stored(edge, await self.publish_last(edge))

    async def _stored(self, edge: str, is_all: Callable[[list[tuple[str, bytes]]], bool]) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        async with self.client.bus.consume(TELEMETRY.filter(edge=edge), start=1) as messages:
            async with asyncio.timeout(HANGS):
                while not is_all(found):
                    message = await anext(messages)
                    found.append((message.topic.rpartition("/")[2], message.body))
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    need_mosquitto()
    directory = tmp_path_factory.mktemp("field")
    async with AsyncExitStack() as opened:
        node = Mosquitto(directory / "mosquitto", LINES)
        await node.start()
        opened.push_async_callback(node.kill)
        cluster = LocalCluster(directory / "cluster", NODES, edge_brokers={NODES[0]: node.url()})
        await opened.enter_async_context(cluster)
        client = await opened.enter_async_context(AsyncClient(cluster.server, timeout=HANGS))
        embedded = cluster.nodes[NODES[1]].broker
        assert embedded is not None
        yield Field(cluster, client, {NODES[0]: node.port, NODES[1]: embedded.mqtt_port})


def own_event(edge: str, device: str, incarnation: str, number: int | str, data: Any = None) -> bytes:
    """Return an event that a device writes and numbers itself."""
    tree = {"specversion": "1.0", "id": f"{incarnation}-{number}-{data}", "source": f"{edge}/{device}/{incarnation}",
            "type": TELEMETRY.type, "sequence": number, "data": data}  # fmt: skip
    return json.dumps(tree).encode()


def named(prefix: str) -> dict[str, str]:
    """Return a device for each payload."""
    return {f"{prefix}-{number}": name for number, name in enumerate(PAYLOADS)}


def published_bytes(event: Event, payload: bytes) -> bytes:
    """Return the bytes that were published, as an event has them. A tree has none: it is the payload's, or is not."""
    if isinstance(event.data, bytes) and event.content_type:
        return event.data
    if event.content_type == TEXT:
        return str(event.data).encode()
    return payload if event.data == parse(payload) else b"another tree"


async def test_each_payload_is_in_the_journal_and_then_in_the_cloud_once_as_it_was(field: Field) -> None:
    await field.cluster.broker.kill()
    journalled, last = {}, {}
    for edge in NODES:
        await field.publish(edge, [(device, PAYLOADS[name]) for device, name in named("p").items()])
        last[edge] = await field.publish_last(edge)
        journalled[edge] = field.journalled(edge)
    await field.cluster.start_broker()
    for edge in NODES:
        assert await field.stored(edge, last[edge]) == journalled[edge]
        assert [device for device, _ in journalled[edge]] == [*named("p"), last[edge]]
        events = {name: decode(dict(journalled[edge])[device]) for device, name in named("p").items()}
        assert {name: event.content_type for name, event in events.items()} == TYPES
        assert {name: published_bytes(event, PAYLOADS[name]) for name, event in events.items()} == PAYLOADS
        assert {event.source for event in events.values()} == {f"{edge}/{device}/mqtt" for device in named("p")}


@pytest.mark.parametrize("edge", NODES)
async def test_what_is_retained_is_taken_once_also_by_the_agent_that_comes_next(field: Field, edge: str) -> None:
    await field.publish(edge, [(device, PAYLOADS[name]) for device, name in named("r").items()], retain=True)
    await field.publish_last(edge)
    await field.cluster.kill(edge)
    await field.cluster.start_agent(edge)
    await field.cluster.wait_ready(HANGS)
    found = Counter(device for device, _ in await field.stored(edge, await field.publish_last(edge)))
    assert {device: found[device] for device in named("r")} == dict.fromkeys(named("r"), 1)


@pytest.mark.parametrize("edge", NODES)
async def test_what_comes_while_the_agent_is_killed_is_taken_once(field: Field, edge: str) -> None:
    """What it had not acknowledged to its broker comes again, marked as a repetition."""
    messages = [(device, PAYLOADS[name]) for device, name in named("k").items()]
    publishing = asyncio.create_task(field.publish(edge, messages * 4))
    await field.cluster.kill(edge)
    await publishing
    await field.cluster.start_agent(edge)
    again = asyncio.create_task(field.publish(edge, messages * 4))
    await field.cluster.wait_ready(HANGS)
    await again
    stored = await field.stored_with(edge, named("k"), 8)
    found = Counter(device for device, _ in stored)
    assert {device: found[device] for device in named("k")} == dict.fromkeys(named("k"), 8)
    events = {device: decode(body) for device, body in stored if device in named("k")}
    assert {name: events[device].content_type for device, name in named("k").items()} == TYPES


COUNTS: Mapping[str, tuple[Sequence[tuple[str, int | str, str]], Sequence[tuple[str, str]], int | str]] = {
    # device: (incarnation, number, data) of each event; data and anomaly of each that is kept; the last acknowledgement
    "orderly": ([("a", 1, "x"), ("a", 2, "y"), ("a", 3, "z")], [("x", ""), ("y", ""), ("z", "")], 3),
    "repeats": ([("a", 1, "x"), ("a", 1, "x"), ("a", 2, "y"), ("a", 1, "x")], [("x", ""), ("y", "")], 2),
    "begins-at-17": ([("a", 17, "x"), ("a", 18, "y")], [("x", "gap"), ("y", "")], 18),
    "skips": ([("a", 1, "x"), ("a", 5, "y"), ("a", 6, "z")], [("x", ""), ("y", "gap"), ("z", "")], 6),
    "late": ([("a", 1, "x"), ("a", 3, "z"), ("a", 2, "y")], [("x", ""), ("z", "gap"), ("y", "late")], 3),
    "restarts-at-1": (
        [("a", 1, "x"), ("a", 2, "y"), ("a", 1, "new x"), ("a", 2, "new y"), ("a", 3, "new z")],
        [("x", ""), ("y", ""), ("new x", "reused"), ("new y", ""), ("new z", "")],
        3,
    ),
    "of-two": (
        [("a", 1, "mine"), ("a", 1, "yours"), ("a", 2, "mine"), ("a", 2, "yours")],
        [("mine", ""), ("yours", "reused"), ("mine", ""), ("yours", "reused")],
        2,
    ),
    "of-two-lives": (
        [("a", 1, "mine"), ("b", 1, "yours"), ("a", 2, "mine"), ("b", 2, "yours")],
        [("mine", ""), ("yours", ""), ("mine", "replaced"), ("yours", "")],
        2,
    ),
    "with-zeros": ([("a", "0001", "x"), ("a", "0002", "y")], [("x", ""), ("y", "")], "0002"),
}


@pytest.mark.parametrize("edge", NODES)
async def test_events_of_devices_that_count_as_they_like_are_all_kept_once(field: Field, edge: str) -> None:
    port, acknowledged = field.ports[edge], dict[str, int | str]()
    async with aiomqtt.Client("127.0.0.1", port) as listener, asyncio.timeout(HANGS):
        await listener.subscribe(f"{DEFAULT_ROOT}/{ACK.filter()}")
        for device, (events, _, _) in COUNTS.items():
            await field.publish(edge, [(device, own_event(edge, device, *each)) for each in events])
        stored = await field.stored(edge, await field.publish_last(edge))
        acks = aiter(listener.messages)
        while acknowledged != {device: last for device, (_, _, last) in COUNTS.items()}:
            message = await anext(acks)
            device = str(message.topic).rpartition("/")[2]
            if device in COUNTS:
                acknowledged[device] = json.loads(bytes(message.payload))["data"]["sequence"]  # type: ignore[arg-type]
    kept: dict[str, list[tuple[str, str]]] = {device: [] for device in COUNTS}
    for device, body in stored:
        if device in COUNTS:
            tree = json.loads(body)
            kept[device].append((tree["data"], tree.get("anomaly", "")))
    assert kept == {device: list(expected) for device, (_, expected, _) in COUNTS.items()}
