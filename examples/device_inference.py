"""A camera on a node: it scales its picture and asks the node's model, with paho-mqtt and without Heliograph.

    python examples/device_inference.py HOST PORT SERVICE [PICTURE.npy]

The edge answers easy samples itself and asks the cloud about hard ones; the answer names the side that answered.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
import time
import uuid
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

DEADLINE = 0.5
SIDE = 8


def picture(path: str | None) -> list[list[float]]:
    """Return rows of brightness, 0 to 1, from a file; without one return a white ring."""
    if path is not None:
        import numpy as np

        rows: list[list[float]] = np.load(path).astype(float).tolist()
        return rows
    return [[float(18 < (x - 32) ** 2 / 9 + (y - 32) ** 2 / 16 < 48) for x in range(64)] for y in range(64)]


def scaled(rows: list[list[float]], side: int = SIDE) -> list[list[float]]:
    """Return the mean of each tile, side × side: enough for the model, in a sixty-fourth of the bytes."""
    high, wide = len(rows) // side, len(rows[0]) // side
    return [
        [sum(rows[y * high + dy][x * wide + dx] for dy in range(high) for dx in range(wide)) / (high * wide)
         for x in range(side)]
        for y in range(side)
    ]  # fmt: skip


def as_bytes(rows: list[list[float]]) -> dict[str, Any]:
    """Return brightness as bytes from 0 to 255, in base64 since JSON has no binary values."""
    data = bytes(round(255 * value) for row in rows for value in row)
    return {"dtype": "uint8", "shape": [len(rows), len(rows[0])], "data": base64.b64encode(data).decode()}


def main() -> int:
    if not 4 <= len(sys.argv) <= 5:
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    host, port, service = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    small = scaled(picture(sys.argv[4] if len(sys.argv) > 4 else None))
    reply = f"heliograph/reply/camera-{uuid.uuid4().hex[:8]}/1"
    request = {"input": as_bytes(small), "deadline": DEADLINE, "reply_to": reply}
    answers: list[dict[str, Any]] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_socket_open = lambda _, __, opened: opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.on_connect = lambda *_: client.subscribe(reply)
    client.on_subscribe = lambda *_: client.publish(f"heliograph/inference/{service}/request", json.dumps(request))
    client.on_message = lambda _, __, message: answers.append(json.loads(message.payload))
    began = time.monotonic()
    client.connect(host, port)
    while not answers and time.monotonic() - began < 10 * DEADLINE:
        client.loop(0.1)
    client.disconnect()
    if not answers:
        print(f"no answer: does a service {service} run on the node of {host}:{port}?", file=sys.stderr)
        return 1
    answer = answers[0]
    if "error" in answer:
        print(f"error: {answer['error']['message']}", file=sys.stderr)
        return 1
    note = ", degraded" if answer["degraded"] else ""
    print(f"{answer['result']} by the {answer['by']}{note}, in {1000 * answer['seconds']:.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
