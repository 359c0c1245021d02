"""A press with two accelerometers, and the terminal beside it where an inspector says what the bearing's state is; with
paho-mqtt and NumPy, without Heliograph.

    python examples/vibration/device.py HOST PORT record EDGE [NUMBER]   # 60 windows of each state, and their labels
    python examples/vibration/device.py HOST PORT ask [NUMBER]           # 60 new windows: which state?

HOST and PORT are those of the node's broker, NUMBER is the press's.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from typing import Any

import paho.mqtt.client as mqtt
from machine import STATES, Press
from paho.mqtt.enums import CallbackAPIVersion

WINDOWS = 60
PATIENCE = 30.0


def main() -> int:
    words = sys.argv[1:]
    if len(words) < 3 or words[2] not in ("record", "ask") or (words[2] == "record" and len(words) < 4):
        print((__doc__ or "").split("\n\n")[1], file=sys.stderr)
        return 2
    host, port, verb, *rest = words
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect(host, int(port))
    client.loop_start()
    try:
        return record(client, rest[0], int(rest[1]) if len(rest) > 1 else 1) if verb == "record" else ask(
            client, int(rest[0]) if rest else 1)  # fmt: skip
    finally:
        client.disconnect()
        client.loop_stop()


def record(client: mqtt.Client, edge: str, number: int) -> int:
    """Publish windows of each state, after the inspector has said which it is."""
    press = Press(number)
    telemetry = f"heliograph/event/telemetry/{edge}"
    for state in STATES:
        _publish(client, f"{telemetry}/terminal", {"state": state})
        for _ in range(WINDOWS):
            x, y = press.measure(state).round(4).T.tolist()
            _publish(client, f"{telemetry}/press-{number}", {"vibration": {"x": x, "y": y}})
    print(f"{WINDOWS * len(STATES)} windows of press-{number} published")
    return 0


def ask(client: mqtt.Client, number: int) -> int:
    """Ask the service about windows that nobody has recorded, and count the right answers."""
    press, reply = Press(number, seed=1), f"heliograph/reply/press-{uuid.uuid4().hex[:8]}"
    answers: dict[str, dict[str, Any]] = {}
    came = threading.Condition()
    wanted = [STATES[each % len(STATES)] for each in range(WINDOWS)]

    def take(_: Any, __: Any, message: mqtt.MQTTMessage) -> None:
        with came:
            answers[message.topic.rpartition("/")[2]] = json.loads(message.payload)
            came.notify()

    client.on_message = take
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.subscribe(f"{reply}/+")
    subscribed.wait(PATIENCE)
    until = time.monotonic() + PATIENCE
    for place, state in enumerate(wanted):
        request = {"input": press.measure(state).round(4).tolist(), "deadline": 5, "reply_to": f"{reply}/{place}"}
        client.publish("heliograph/inference/bearing/request", json.dumps(request))
        with came:
            came.wait_for(lambda place=place: str(place) in answers, until - time.monotonic())
    told = [answers.get(str(place), {}) for place in range(WINDOWS)]
    right = sum(answer.get("result") == state for answer, state in zip(told, wanted, strict=True))
    by_cloud = sum(answer.get("by") == "cloud" for answer in told)
    print(f"accuracy {right / WINDOWS:.3f}: {right} of {WINDOWS} states right, {by_cloud} by the cloud")
    return 0 if all("result" in answer for answer in told) else 1


def _publish(client: mqtt.Client, topic: str, document: Any) -> None:
    client.publish(topic, json.dumps(document), qos=1).wait_for_publish(PATIENCE)


if __name__ == "__main__":
    sys.exit(main())
