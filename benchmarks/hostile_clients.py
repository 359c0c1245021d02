"""Hostile clients: mixed requests at a steady rate, three of four over NATS, the others over MQTT.

``hostile.py`` starts it as ``python -m … NATS MQTT RATE SECONDS``. It prints, as JSON, the number of requests sent, and
of answers by code.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import nats
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.core.world import World, seeded

NAME = "hostile"
TICK = 0.005
"""Seconds between two handfuls of requests."""
LAST_ANSWERS = 1.0
"""Seconds to wait for answers after the last request."""
NAMES = 500
"""Names that requests use again and again."""

Document = dict[str, Any]


def _dataset(name: str, **annotations: str) -> Document:
    return {"kind": "Dataset", "metadata": {"name": name, "annotations": annotations}}


def _job(name: str, workers: int) -> Document:
    listed = [{"name": f"worker-{number}", "nodeName": f"edge-{number}"} for number in range(workers)]
    spec = {"aggregationWorker": {"model": {"name": "none"}}, "trainingWorkers": listed}
    return {"kind": "FederatedTask", "metadata": {"name": name}, "spec": spec}


FAT = {f"note-{number}": 60_000 * "x" for number in range(14)}
HUGE_JOB = _job("huge", 10_000)
MANY_FIELDS = {"kind": "Dataset", "metadata": {"name": "fields"}, "spec": {f"field-{n}": n for n in range(10_000)}}
NESTED = {"kind": "Dataset", "metadata": {"name": "nested"}, "spec": {"url": [[[]]] * 10_000}}
KINDS: tuple[tuple[int, str, Callable[[str], Document | bytes]], ...] = (
    (400, "models/get", lambda name: {"name": "honest"}),
    (100, "models/get", lambda name: {"name": name}),
    (100, "datasets/list", lambda name: {}),
    (80, "datasets/create", _dataset),
    (80, "datasets/delete", lambda name: {"name": name}),
    (60, "datasets/update", lambda name: _dataset(name, changed="yes")),
    (60, "unicorns/create", _dataset),
    (40, "jobs/create", lambda name: _job(name, 3)),
    (25, "datasets/create", lambda name: b"\xff" * 100_000),
    (20, "datasets/create", lambda name: MANY_FIELDS),
    (20, "datasets/create", lambda name: NESTED),
    (10, "datasets/create", lambda name: _dataset(name, **FAT)),
    (5, "jobs/create", lambda name: HUGE_JOB | {"metadata": {"name": name}}),
)
"""Weight, topic below ``request``, and document of each kind of request."""


class _Mqtt:
    """An MQTT client; paho's thread serves it."""

    def __init__(self, url: ConnectionUrl, count: Callable[[bytes], None]) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=NAME)
        self._client.username_pw_set(url.credentials.user, url.credentials.password)
        self._client.on_connect = lambda client, *_: client.subscribe(f"heliograph/reply/{NAME}/+", 0)
        self._client.on_message = lambda _, __, message: count(bytes(message.payload))
        self._client.connect(url.host, url.port)
        self._client.loop_start()

    def send(self, topic: str, document: Document | bytes, number: int) -> None:
        if isinstance(document, dict):
            document = json.dumps(document | {"reply_to": f"heliograph/reply/{NAME}/{number}"}).encode()
        self._client.publish(f"heliograph/request/{topic}", document, 0)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


async def main(nats_url: str, mqtt_url: str, rate: float, seconds: float) -> Counter[str]:
    """Flood for so many seconds; return the numbers of requests, ``sent``, and of answers by code."""
    world, rng, answers = World(), seeded(NAME), Counter[str]()

    def count(body: bytes) -> None:
        answer = json.loads(body)
        answers["ok" if answer["ok"] else answer["error"]["code"]] += 1

    async def received(message: Any) -> None:
        count(message.data)

    client = await nats.connect(nats_url, name=NAME)
    await client.subscribe(f"_INBOX.{NAME}.*", cb=received)
    mqtt = _Mqtt(ConnectionUrl.parse(mqtt_url), count)
    weights, requests = [each[0] for each in KINDS], [each[1:] for each in KINDS]
    began, sent = world.monotonic(), 0
    while (now := world.monotonic() - began) < seconds:
        for topic, document_of in rng.choices(requests, weights, k=int(now * rate) - sent):
            sent += 1
            document = document_of(f"name-{rng.randrange(NAMES)}")
            if sent % 4 == 0:
                mqtt.send(topic, document, sent)
                continue
            body = json.dumps(document).encode() if isinstance(document, dict) else document
            await client.publish(f"heliograph.request.{topic.replace('/', '.')}", body, reply=f"_INBOX.{NAME}.{sent}")
        await world.sleep(TICK)
    await world.sleep(LAST_ANSWERS)
    mqtt.close()
    await client.close()
    return answers + Counter(sent=sent)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))))
