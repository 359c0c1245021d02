"""A node whose firewall lets nothing but port 443 pass, and a proxy: it enrols, trains and renews its login by that."""

from __future__ import annotations

import json
from pathlib import Path

from heliograph.client import AsyncClient
from heliograph.core.world import World
from heliograph.enrolment import renew
from heliograph.local.nats_server import free_ports
from tests.bus.nats.http_proxy import http_proxy
from tests.local.started import command_of, started, typed

SCRIPT = """
import numpy as np
from heliograph import FederatedLearning
model = {"w": np.zeros(300_000, np.float32)}
for _ in FederatedLearning(model, num_samples=1).rounds():
    model["w"] += 1
"""


async def test_a_node_lives_by_the_one_port(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    (code := tmp_path / "code").mkdir()
    (code / "train.py").write_text(SCRIPT)
    node = tmp_path / "node"
    async with started(tmp_path, "--websocket-port", str(port), "--code", str(code)) as cloud:
        words = ("edge", "invite", "hall-1", "--address", f"wss://localhost:{port}/nats")
        done, said = await typed(*words, home=tmp_path, variables=cloud.as_operator)
        assert done == 0, said
        word = next(line for line in said.splitlines() if line.startswith("heliograph-invitation."))
        done, said = await typed("enroll", "-", "--state", str(node), text=word, home=node)
        assert done == 0, said
        enrolled = json.loads((node / "identity" / "cloud.json").read_text())["cloud"]
        assert enrolled.startswith(f"wss://localhost:{port}/nats?")
        async with http_proxy(allowed=(port,)) as proxy:
            by_proxy = f"{enrolled}&proxy=http://127.0.0.1:{proxy.port}"
            async with (
                AsyncClient(str(cloud.operator)) as client,
                cloud.edge("hall-1", node, code, cloud_url=by_proxy),
            ):
                await cloud.online(client, "hall-1")
                await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
                worker = {"trainScriptBootFile": "train.py"}
                spec = {"aggregationWorker": {"model": {"name": "line"}}, "rounds": 2,
                        "trainingWorkers": [{"name": "one", "nodeName": "hall-1", "workerSpec": worker}]}  # fmt: skip
                await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "job"}, "spec": spec})
                status = {}
                async for document in client.jobs.watch("job"):
                    status = document["status"]
                assert status["phase"] == "Succeeded", status
                await renew(by_proxy, World())
            assert set(proxy.asked) == {f"localhost:{port}"}


async def test_a_broker_at_a_port_of_roots_gets_the_right_and_no_other(tmp_path: Path) -> None:
    done, said = await typed("init", str(tmp_path / "cloud"), "--websocket-port", "443", home=tmp_path)
    assert done == 0 and "WebSocket  ws://127.0.0.1:443, for MQTT with the path /mqtt" in said, said
    unit = tmp_path / "cloud" / "systemd" / "heliograph-broker.service"
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" in unit.read_text()
    done, said = await typed("init", str(tmp_path / "cloud"), "--websocket-port", "8443", home=tmp_path)
    assert done == 0 and "Capabilities" not in unit.read_text(), said
    configuration = json.loads(Path(command_of(unit)[0][-1]).read_text())
    assert configuration["websocket"]["port"] == 8443
