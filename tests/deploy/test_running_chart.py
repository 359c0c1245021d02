"""The chart's pods, run as processes from what is rendered: three servers, coordinators, the cloud's agent, an edge."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from heliograph.bus.contract.topics import STATUS
from heliograph.client import AsyncClient
from heliograph.core.world import World
from heliograph.local.certificates import Certificates
from heliograph.local.nats_server import free_ports
from tests.deploy.kubelet import Kubelet, Manifest, Pod
from tests.deploy.rendered import HALL, named, rendered
from tests.local.started import typed
from tests.patience import HANGS

SERVERS = 3
VALUES: dict[str, Any] = {"coordinator": {"kubernetes": {"enabled": False}}, "agents": {"groups": [HALL]}}
OWN = {"10001:10001": f"{os.getuid()}:{os.getgid()}"}
"""Who is root in no pod, as this process."""


@pytest.mark.long
async def test_a_cloud_runs_from_the_charts_pods_and_a_node_enrols_by_its_group(tmp_path: Path) -> None:
    manifests = rendered(VALUES)
    async with brokers(tmp_path, manifests) as (kubelet, addresses):
        workload = named(manifests, "Deployment", "heliograph-coordinator")
        leader, standby = (kubelet.pod(workload, f"heliograph-coordinator-{mark}") for mark in ("a", "b"))
        cloud = kubelet.pod(named(manifests, "StatefulSet", "heliograph-cloud-agent"), "heliograph-cloud-agent-0")
        daemon = named(manifests, "DaemonSet", "heliograph-agents-hall")
        started: list[Pod] = [leader, standby, cloud]
        try:
            await leader.initialize()
            await (await leader.start()).wait_for_line("is ready", HANGS)
            await standby.initialize()
            await (await standby.start()).wait_for_line("stands by", HANGS)
            await cloud.start()
            operator = login(tmp_path, addresses)
            async with AsyncClient(str(operator)) as client:
                await online(client, "cloud")
                await invited(kubelet, tmp_path, operator, addresses[0])
                edge = kubelet.pod(daemon, "heliograph-agents-hall-x1", "node-1.example.org", **OWN)
                started.append(edge)
                said = await edge.initialize()
                (name,) = [line.split()[0].removeprefix("edge/") for line in said if line.endswith("/state/identity")]
                assert name.startswith("hall-node-1-example-org-")
                await edge.start()
                assert (await online(client, name))["spec"]["labels"] == {
                    "kubernetes.io/hostname": "node-1.example.org",
                    "apps.kubeedge.io/belonging-to": "hall",
                    "site": "hall",
                }

                # another version's pod comes while the old one still runs, and the invitation is gone
                kubelet.objects[:] = [each for each in kubelet.objects if "invitation" not in each["metadata"]["name"]]
                successor = kubelet.pod(daemon, "heliograph-agents-hall-x2", "node-1.example.org", **OWN)
                started.append(successor)
                assert any("has enrolled already" in line for line in await successor.initialize())
                await (await successor.start()).wait_for_line("starts once that has ended", HANGS)
                await edge.stop()
                await successor.children["agent"].wait_for_line("agent hall-node-1", HANGS)
                await online(client, name)

                await leader.stop()
                await standby.children["coordinator"].wait_for_line("is ready", HANGS)
        finally:
            for pod in reversed(started):
                await pod.stop()


@asynccontextmanager
async def brokers(tmp_path: Path, manifests: list[Manifest]) -> AsyncIterator[tuple[Kubelet, list[str]]]:
    """Make a cloud's keys, and start the servers of the broker. Yield what runs pods, and the servers' addresses."""
    code, said = await typed("init", str(tmp_path / "cloud"), "--bind", "0.0.0.0", "--tls-name", "localhost",
                             "--tls-name", "heliograph-nats", home=tmp_path)  # fmt: skip
    assert code == 0, said
    code, printed = await typed("secrets", str(tmp_path / "cloud"), "--servers", str(SERVERS), home=tmp_path)
    assert code == 0, printed
    secrets = [*yaml.safe_load_all(printed)]
    route_over_loopback(tmp_path / "routes", named(secrets, "Secret", "heliograph-broker"))
    ports = [free_ports(4) for _ in range(SERVERS)]
    addresses = [f"127.0.0.1:{nats}" for nats, *_ in ports]
    mqtts = ",".join(f"127.0.0.1:{mqtt}" for _, mqtt, *_ in ports)
    (nobody,) = free_ports(1)
    kubelet = Kubelet(tmp_path / "machine", [*(each for each in manifests if each["kind"] == "ConfigMap"), *secrets], {
        "heliograph-nats:4222": ",".join(addresses), "heliograph-nats:8883": mqtts,
        "mqtt://127.0.0.1:1883": f"mqtt://127.0.0.1:{nobody}",  # as on a node whose mosquitto has not come back
        **{f"heliograph-nats-{number}.heliograph-nats-routes:6222": f"127.0.0.1:{each[2]}"
           for number, each in enumerate(ports)},
    })  # fmt: skip
    workload = named(manifests, "StatefulSet", "heliograph-nats")
    servers = []
    try:
        for number, (nats, mqtt, routes, http) in enumerate(ports):
            own = {"port: 4222": f"port: {nats}", "port: 8883": f"port: {mqtt}", "port: 6222": f"port: {routes}",
                   "127.0.0.1:8222": f"127.0.0.1:{http}", '"0.0.0.0"': '"127.0.0.1"'}  # fmt: skip
            servers.append(kubelet.pod(workload, f"heliograph-nats-{number}", **own))
            await servers[-1].start()
        for server in servers:
            await server.until_ready()
        yield kubelet, addresses
    finally:
        for server in servers:
            await server.stop()


def route_over_loopback(directory: Path, secret: Manifest) -> None:
    """Give the servers a certificate for 127.0.0.1, since no name of a pod leads anywhere here."""
    made = Certificates(directory, ("127.0.0.1",), World(), peers=True)
    made.renew()
    for key, file in (("routes.pem", made.server), ("routes.key", made.server_key), ("routes-ca.pem", made.ca)):
        secret["data"][key] = base64.b64encode(file.read_bytes()).decode()


def login(tmp_path: Path, addresses: list[str]) -> Path:
    """Return the file of the operator's login, with the address that a load balancer has in its place."""
    file = tmp_path / "cloud" / "users" / "operator" / "cluster.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "server": f"tls://{','.join(addresses)}"}))
    return file


async def invited(kubelet: Kubelet, tmp_path: Path, operator: Path, address: str) -> None:
    """Put an invitation for the group into a Secret, as the notes say."""
    code, said = await typed("edge", "invite", "hall", "--nodes", "3", "--address", f"tls://{address}", home=tmp_path,
                             variables={"HELIOGRAPH_SERVER": str(operator)})  # fmt: skip
    assert code == 0, said
    word = next(line for line in said.splitlines() if line.startswith("heliograph-invitation."))
    data = {"invitation": base64.b64encode(word.encode()).decode()}
    kubelet.objects.append({"kind": "Secret", "metadata": {"name": "heliograph-invitation-hall"}, "data": data})


async def online(client: AsyncClient, edge: str) -> dict[str, Any]:
    """Wait until an edge is online and its agent has reported; return it."""
    async with (
        asyncio.timeout(HANGS),
        client.bus.subscribe(STATUS.at(resource="edges", name=edge)) as changes,
    ):
        while True:
            found = {each["metadata"]["name"]: each for each in await client.edges.list()}.get(edge)
            if found is not None and found["status"]["online"] and found["status"]["version"]:
                return found
            await anext(changes)
