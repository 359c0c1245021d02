"""A client of the cloud's door: it logs in, publishes a task and waits for its end, with paho-mqtt alone.

    python examples/publish_task.py LOGIN.json TASK.json

LOGIN.json is the user's cluster.json, which `heliograph up` writes: the token stands in no argument.
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

ENDED = ("Succeeded", "Failed", "Stopped")


def main() -> int:
    if len(sys.argv) != 3:
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    login = json.loads(Path(sys.argv[1]).read_text())
    task = json.loads(Path(sys.argv[2]).read_text())
    door, user = urlsplit(login["mqtt"]), login["user"]
    reply = f"heliograph/reply/{user}/{uuid.uuid4().hex}"  # only this user reads it
    status = f"heliograph/status/jobs/{task['metadata']['name']}"
    received: list[tuple[str, Any]] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(user, unquote(door.password or ""))
    if door.scheme == "mqtts":
        client.tls_set(str(Path(sys.argv[1]).with_name("ca.pem")))
    client.on_connect = lambda *_: client.subscribe([(reply, 1), (status, 1)])
    client.on_subscribe = lambda *_: client.publish(
        "heliograph/request/jobs/create", json.dumps(task | {"reply_to": reply}), qos=1
    )
    client.on_message = lambda _, __, message: received.append((message.topic, json.loads(message.payload or "null")))
    client.connect(door.hostname or "", door.port or 1883)
    phase = ""
    while phase not in ENDED:
        client.loop(0.1)
        while received:
            topic, document = received.pop(0)
            if topic == reply and not document["ok"]:
                print(f"refused: {document['error']['message']}", file=sys.stderr)
                return 1
            if topic == status and document:
                phase = document["data"]["status"]["phase"]
                print(f"{task['metadata']['name']} {phase}: round {document['data']['status']['round']}", flush=True)
    client.disconnect()
    return 0 if phase == "Succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
