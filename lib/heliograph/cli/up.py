"""``up``: a cluster that runs until Ctrl-C, with example commands that work as printed."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.cli.output import paint, say
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.demo import digits
from heliograph.local.follow_job import wait_for_offers
from heliograph.server import cluster_file

EXAMPLE = Path("examples/federated-task.json")


async def serve(
    directory: Path,
    edges: int,
    seed: int,
    edge_brokers: Mapping[str, str],
    code: tuple[Path, ...],
    data: tuple[Path, ...],
    world: World,
) -> None:
    """Run a cluster until cancelled. Raise HeliographError if a cluster of this user is already up."""
    file = cluster_file()
    _refuse_second(file)
    names = [f"edge-{number + 1}" for number in range(edges)]
    began = world.monotonic()
    say(f"starting broker, coordinator and {edges + 1} agents …")
    sample = await _sample_data(directory, names, seed, world)
    script = digits.SCRIPTS["numpy"]
    cluster = LocalCluster(
        directory, names, datasets=sample, code=(script.parent, *code), data=data, edge_brokers=edge_brokers,
        world=world, log=directory / "log.txt", supervise=lambda line: say(paint(line, "yellow")),
    )  # fmt: skip
    async with cluster:
        async with AsyncClient(cluster.server) as client:
            await wait_for_offers(client, sample)
            if sample:
                await client.models.apply(digits.model())
        _write_cluster_file(file, cluster.server)
        try:
            _say_addresses(cluster, directory, bool(sample), world.monotonic() - began)
            await asyncio.Event().wait()
        finally:
            file.unlink(missing_ok=True)
            say("stopping …")


async def _sample_data(directory: Path, names: list[str], seed: int, world: World) -> dict[str, dict[str, Path]]:
    """Return the digits for the example; none if scikit-learn is not installed."""
    try:
        return digits.datasets(await world.in_thread(digits.write_digits, directory / "data", names, seed))
    except HeliographError as error:
        say(paint(f"no sample data on the edges: {error}", "yellow"))
        return {}


def _refuse_second(file: Path) -> None:
    if not file.exists():
        return
    try:
        pid = json.loads(file.read_text())["pid"]
        os.kill(int(pid), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return  # a killed cluster left the file
    raise HeliographError(f"a cluster is up already, process {pid}; stop it with Ctrl-C or 'kill {pid}' first")


def _write_cluster_file(file: Path, server: str) -> None:
    """Write the file by which the command line finds the cluster, readable by this user alone: it has a password."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps({"pid": os.getpid(), "server": server}))
    partial.replace(file)


def _say_addresses(cluster: LocalCluster, directory: Path, sample: bool, seconds: float) -> None:
    door = ConnectionUrl.parse(cluster.door)
    where = f"-h {door.host} -p {door.port}"
    task = EXAMPLE
    if sample and not EXAMPLE.exists():
        task = directory / EXAMPLE.name
        task.write_text(json.dumps(digits.task(), indent=2) + "\n")
    say(paint(f"up in {seconds:.1f} s: {', '.join(cluster.edges)}", "bold"))
    say(f"MQTT  {cluster.door}")
    say(f"NATS  {cluster.broker.url()}")
    for name, node in cluster.nodes.items():
        if name in cluster.edges:
            broker = node.broker.url(scheme="mqtt") if node.broker is not None else node.external_broker
            say(f"MQTT  {broker} on {name}, for its devices")
    if sample:
        say("")
        say("publish a task and watch it:")
        say(f"    mosquitto_pub {where} -q 1 -t heliograph/request/jobs/create -f {task}")
        say(f"    mosquitto_sub {where} -t 'heliograph/status/#' -v")
        say("    heliograph watch jobs/digits")
    say("")
    say("Ctrl-C stops the cluster.")
