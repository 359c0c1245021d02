"""A device on a node, as any MQTT client: it publishes a numbered event every 100 ms until SIGTERM.

    python -m heliograph.local.demo.device HOST PORT TOPIC

At the end it waits until the broker has acknowledged the last event, and prints the number of events sent.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

PERIOD = 0.1
"""Seconds between two events."""


def _set_no_delay(client: mqtt.Client, data: Any, opened: Any) -> None:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main() -> int:
    host, port, topic = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="thermometer")
    client.on_socket_open = _set_no_delay
    client.connect(host, port)
    client.loop_start()
    number = 0
    began = time.perf_counter()
    while not ending.wait(max(0.0, began + number * PERIOD - time.perf_counter())):
        number += 1
        sent = client.publish(topic, json.dumps({"number": number, "celsius": 20 + number % 7}), qos=1)
    if number:
        sent.wait_for_publish(5)
    client.disconnect()
    client.loop_stop()
    print(number, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
