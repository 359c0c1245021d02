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
from dataclasses import dataclass
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
THIS, REPLY = "this-name", "this-reply"
"""Stand in a request's body for its name and its reply topic: encoding each anew would take most of the time."""


def _dataset(name: str = THIS, **annotations: str) -> Document:
    return {"kind": "Dataset", "metadata": {"name": name, "annotations": annotations}}


def _job(workers: int) -> Document:
    listed = [{"name": f"worker-{number}", "nodeName": f"edge-{number}"} for number in range(workers)]
    spec = {"aggregationWorker": {"model": {"name": "none"}}, "trainingWorkers": listed}
    return {"kind": "FederatedTask", "metadata": {"name": THIS}, "spec": spec}


FAT = {f"note-{number}": 60_000 * "x" for number in range(14)}
MANY_FIELDS = {"kind": "Dataset", "metadata": {"name": THIS}, "spec": {f"field-{n}": n for n in range(10_000)}}
NESTED = {"kind": "Dataset", "metadata": {"name": THIS}, "spec": {"url": [[[]]] * 10_000}}
KINDS: tuple[tuple[int, str, Document | bytes], ...] = (
    (400, "models/get", {"name": "honest"}),
    (100, "models/get", {"name": THIS}),
    (100, "datasets/list", {}),
    (80, "datasets/create", _dataset()),
    (80, "datasets/delete", {"name": THIS}),
    (60, "datasets/update", _dataset(changed="yes")),
    (60, "unicorns/create", _dataset()),
    (40, "jobs/create", _job(3)),
    (25, "datasets/create", 100_000 * b"\xff"),
    (20, "datasets/create", MANY_FIELDS),
    (20, "datasets/create", NESTED),
    (10, "datasets/create", _dataset(**FAT)),
    (5, "jobs/create", _job(10_000)),
)
"""Weight, topic below ``request``, and body of each kind of request."""


@dataclass(frozen=True)
class _Kind:
    """One kind of request, with its body for NATS and for MQTT, which needs a reply topic in the document."""

    topic: str
    body: bytes
    mqtt_body: bytes

    @classmethod
    def of(cls, topic: str, body: Document | bytes) -> _Kind:
        if isinstance(body, bytes):
            return cls(topic, body, body)
        return cls(topic, json.dumps(body).encode(), json.dumps({"reply_to": REPLY, **body}).encode())


class _Mqtt:
    """An MQTT client; paho's thread serves it."""

    def __init__(self, url: ConnectionUrl, count: Callable[[bytes], None]) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=NAME)
        self._client.username_pw_set(*url.credentials.of_mqtt())
        self._client.on_connect = lambda client, *_: client.subscribe(f"heliograph/reply/{NAME}/+", 0)
        self._client.on_message = lambda _, __, message: count(bytes(message.payload))
        self._client.connect(url.host, url.port)
        self._client.loop_start()

    def send(self, topic: str, body: bytes, number: int) -> None:
        body = body.replace(REPLY.encode(), f"heliograph/reply/{NAME}/{number}".encode(), 1)
        self._client.publish(f"heliograph/request/{topic}", body, 0)

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
    weights, kinds = [weight for weight, _, _ in KINDS], [_Kind.of(topic, body) for _, topic, body in KINDS]
    began, sent = world.monotonic(), 0
    while (now := world.monotonic() - began) < seconds:
        for kind in rng.choices(kinds, weights, k=int(now * rate) - sent):
            sent += 1
            name = f"name-{rng.randrange(NAMES)}".encode()
            if sent % 4 == 0:
                mqtt.send(kind.topic, kind.mqtt_body.replace(THIS.encode(), name, 1), sent)
                continue
            subject = f"heliograph.request.{kind.topic.replace('/', '.')}"
            body = kind.body.replace(THIS.encode(), name, 1)
            await client.publish(subject, body, reply=f"_INBOX.{NAME}.{sent}")
        await world.sleep(TICK)
    await world.sleep(LAST_ANSWERS)
    mqtt.close()
    await client.close()
    return answers + Counter(sent=sent)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))))
