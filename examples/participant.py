"""A program that trains by itself and takes part in a federated job, with paho-mqtt and without Heliograph.

    python examples/participant.py CLUSTER.json JOB

CLUSTER.json is the participant's own: `heliograph up --participant phone` writes it. The model is one tensor `w` of
float32, a line through 3 dimensions; the samples stay in this process. docs/participants.md explains each message.
"""

from __future__ import annotations

import base64
import hashlib
import json
import queue
import random
import socket
import struct
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

ASK_EVERY = 5.0
ENDED = ("Succeeded", "Failed", "Stopped")
TRUE_LINE = (1.0, -2.0, 0.5)


def samples(number: int = 100) -> list[tuple[list[float], float]]:
    """Return this participant's own data: points, and their heights above the line."""
    rng = random.Random(7)
    points = [[rng.gauss(0, 1) for _ in TRUE_LINE] for _ in range(number)]
    return [(point, sum(a * b for a, b in zip(point, TRUE_LINE, strict=True))) for point in points]


def train(w: list[float], data: list[tuple[list[float], float]], rate: float) -> list[float]:
    """Return the weights after one pass of gradient descent."""
    for point, height in data:
        error = sum(a * b for a, b in zip(w, point, strict=True)) - height
        w = [a - rate * error * b for a, b in zip(w, point, strict=True)]
    return w


def read_weights(file: bytes) -> list[float]:
    """Return the tensor `w` of a safetensors file: 8 bytes length, a JSON header, the data."""
    length = int.from_bytes(file[:8], "little")
    start, end = json.loads(file[8 : 8 + length])["w"]["data_offsets"]
    return list(struct.unpack(f"<{(end - start) // 4}f", file[8 + length + start : 8 + length + end]))


def write_weights(w: list[float], round: int) -> bytes:
    """Return a safetensors file. The round in its metadata gives each round's file a digest of its own."""
    tensor = {"dtype": "F32", "shape": [len(w)], "data_offsets": [0, 4 * len(w)]}
    header = json.dumps({"__metadata__": {"round": str(round)}, "w": tensor}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + struct.pack(f"<{len(w)}f", *w)


class Participant:
    """A login at the cloud's broker, and the requests and updates of one job."""

    def __init__(self, login: Path, job: str) -> None:
        url = urlsplit(json.loads(login.read_text())["mqtt"])
        assert url.username and url.hostname and url.port
        self.job, self.login = job, url.username
        self.name = url.username.removeprefix("participant-")
        self._incarnation = uuid.uuid4().hex[:12]
        self._replies: queue.Queue[dict[str, Any]] = queue.Queue()
        self._changes: queue.Queue[None] = queue.Queue()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(url.username, url.password)
        if url.scheme == "mqtts":
            self._client.tls_set(str(login.with_name("ca.pem")))
        self._client.on_socket_open = lambda _, __, opened: opened.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        self._client.on_connect = lambda *_: self._client.subscribe(
            [(f"heliograph/reply/{self.login}/+", 1), (f"heliograph/status/jobs/{job}", 1)]
        )
        self._client.on_message = self._received
        self._client.connect(url.hostname, url.port, keepalive=10)  # a dead participant is noticed after 15 s
        self._client.loop_start()

    def _received(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic.startswith("heliograph/reply/"):
            self._replies.put(json.loads(message.payload))
        else:
            self._changes.put(None)

    def join(self, num_samples: int) -> dict[str, Any]:
        """Ask to take part, and return what there is to do now; ask again after silence."""
        number = 0
        while True:
            number += 1
            reply_to = f"heliograph/reply/{self.login}/{number}"
            request = {"name": self.job, "num_samples": num_samples, "reply_to": reply_to}
            self._client.publish("heliograph/request/jobs/join", json.dumps(request), qos=1)
            try:
                answer = self._replies.get(timeout=ASK_EVERY)
            except queue.Empty:
                continue
            if answer["ok"]:
                result: dict[str, Any] = answer["result"]
                return result
            raise SystemExit(f"error: {answer['error']['message']}")

    def send(self, task: dict[str, Any], weights: bytes, num_samples: int) -> None:
        """Publish the update of a round, as a CloudEvents 1.0 event."""
        topic = f"edge/{self.name}/up/model-update/{self.job}"
        digest = hashlib.sha256(weights).hexdigest()
        data = {
            "job": self.job, "job_uid": task["job_uid"], "round": task["round"], "edge": self.name,
            "weights": {"digest": digest, "size": len(weights), "inline": base64.b64encode(weights).decode()},
            "num_samples": num_samples,
        }  # fmt: skip
        if "model" in task:
            data["base"] = task["model"]["digest"]
        event = {
            "specversion": "1.0", "id": uuid.uuid4().hex, "source": f"{self.name}/trainer/{self._incarnation}",
            "type": "heliograph.model-update.v1", "subject": topic, "time": datetime.now(UTC).isoformat(), "data": data,
        }  # fmt: skip
        self._client.publish(f"heliograph/{topic}", json.dumps(event), qos=1)

    def wait(self) -> None:
        """Wait until the job's status changes, and at most so long that a lost message delays little."""
        try:
            self._changes.get(timeout=ASK_EVERY)
            while True:  # what has come together is one change
                self._changes.get_nowait()
        except queue.Empty:
            return

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def main() -> int:
    if len(sys.argv) != 3:
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    data = samples()
    participant = Participant(Path(sys.argv[1]), sys.argv[2])
    answered, began = -1, time.monotonic()
    while (task := participant.join(len(data)))["phase"] not in ENDED:
        if task["active"] and task["round"] != answered:
            w = [0.0] * len(TRUE_LINE)
            if "model" in task:
                w = train(read_weights(base64.b64decode(task["model"]["inline"])), data, rate=0.05)
            participant.send(task, write_weights(w, task["round"]), len(data))
            answered = task["round"]
            print(f"round {answered}: w is {', '.join(f'{each:.3f}' for each in w)}", flush=True)
        participant.wait()
    participant.close()
    print(f"{task['phase']} after {time.monotonic() - began:.1f} s")
    return 0 if task["phase"] == "Succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
