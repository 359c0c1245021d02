"""``heliograph init --servers 5`` lets a cluster of three servers that runs become one of five, on one machine or on
five."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.nats.bus import NatsBus
from heliograph.client import AsyncClient
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.local.cloud_directory import CloudDirectory
from heliograph.local.cloud_settings import CloudSettings
from tests.end_to_end.init_cluster import FURTHER, MACHINES, carried, running
from tests.local.started import Started, typed
from tests.patience import HANGS


class Writer:
    """A client that creates one model after another, and counts those that the cloud has acknowledged."""

    def __init__(self, client: AsyncClient) -> None:
        self.acknowledged: list[str] = []
        self._client = client
        self._more = asyncio.Condition()

    async def run(self) -> None:
        while True:
            name = f"model-{len(self.acknowledged)}"
            await self._client.models.create({"kind": "Model", "metadata": {"name": name}})
            async with self._more:
                self.acknowledged.append(name)
                self._more.notify_all()

    async def wait_more(self) -> None:
        """Wait until five more have been acknowledged, of which the last four began after this call."""
        wanted = len(self.acknowledged) + 5
        async with asyncio.timeout(HANGS), self._more:
            await self._more.wait_for(lambda: len(self.acknowledged) >= wanted)


async def wait_current(cloud: Started, servers: int) -> None:
    code, said = await typed("servers", str(cloud.directory), "--wait", "60", home=cloud.home)
    assert code == 0 and len(re.findall(r" current$", said, re.MULTILINE)) == servers, said


async def replicas(cloud: Started) -> Counter[tuple[int, int]]:
    """Count the core account's streams by their number of replicas, and of those among them that are current."""
    settings = CloudSettings.of_cloud(cloud.directory)
    url = CloudDirectory(cloud.directory, settings, World()).broker.url("coordinator")
    async with connect(url, world=World(), name="replicas") as bus:
        assert isinstance(bus, NatsBus)
        await bus.link.wait_up(HANGS)
        found, leaderless = await bus.connection.streams()
    assert not leaderless
    return Counter(
        (each["config"]["num_replicas"], 1 + sum(bool(peer.get("current")) for peer in each["cluster"]["replicas"]))
        for each in found
    )


@pytest.mark.long
@pytest.mark.parametrize("machines", [False, True], ids=["one machine", "five machines"])
async def test_three_servers_become_five_and_nothing_stops_or_is_lost(tmp_path: Path, machines: bool) -> None:
    async with (
        running(tmp_path, machines) as (cloud, servers),
        AsyncClient(str(cloud.operator), timeout=HANGS, leader_timeout=HANGS) as client,
    ):
        writer = Writer(client)
        writing = asyncio.create_task(writer.run())
        try:
            await writer.wait_more()
            before = await replicas(cloud)
            assert set(before) == {(3, 3)}
            options = [word for host in (*MACHINES, *FURTHER) for word in ("--machine", host)]
            code, said = await cloud.init(*(options if machines else ("--servers", "5")))
            assert code == 0 and "from 3 to 5 servers" in said, said
            new = []
            for number, host in enumerate(FURTHER, 4):
                if machines:
                    new.append((await carried(cloud, host, tmp_path, servers=5), "broker"))
                else:
                    new.append((cloud, f"broker-{number}"))
            servers += new
            for machine, name in new:
                assert machines or f"heliograph-{name}.service" in said
                await machine.begin(name)
            await wait_current(cloud, 5)
            for number, (machine, name) in enumerate(servers[:3]):
                if machines and number:
                    host = MACHINES[number]
                    (line,) = (each.strip() for each in said.splitlines() if "scp" in each and f"{host}:" in each)
                    here = line.replace("scp", "cp").replace(f"{host}:heliograph", shlex.quote(str(machine.directory)))
                    run = await asyncio.create_subprocess_shell(here)
                    assert await asyncio.wait_for(run.wait(), HANGS) == 0, here
                    code, said_there = await machine.init()
                    assert code == 0 and "configuration has changed" in said_there, said_there
                await machine.begin(name)
                await wait_current(cloud, 5)
                await writer.wait_more()
            for name in ("coordinator", "cloud"):
                await cloud.start(name)
            await wait_current(cloud, 5)
            assert await replicas(cloud) == Counter({(5, 5): before.total()})
            for machine, name in servers[:2]:
                await machine.kill(name)
            await writer.wait_more()  # three of five go on
        finally:
            await cancel_and_wait(writing)
        named = Counter(each["metadata"]["name"] for each in await client.models.list())
        assert all(named[name] == 1 for name in writer.acknowledged)
        assert named.total() - len(writer.acknowledged) in (0, 1)  # what was being asked for as the writer ended
        code, said = await cloud.init("--servers", "3")
        assert code != 0 and "expected 5 or more" in said and "Traceback" not in said, said


async def test_a_server_that_has_stored_something_keeps_its_number(tmp_path: Path) -> None:
    cloud = Started(tmp_path / "cloud", tmp_path, {})
    three = ("a.example", "b.example", "c.example")
    code, said = await cloud.init(*(word for host in three for word in ("--machine", host)))
    assert code == 0, said
    (cloud.directory / "broker" / "store").mkdir()
    for hosts in (("b.example", "a.example", "c.example"), ("d.example", *three, "e.example")):
        code, said = await cloud.init(*(word for host in hosts for word in ("--machine", host)))
        assert code != 0 and "expected first the machines that this cloud has, a.example, b.example, c.example" in said
        assert not (cloud.directory / "machines" / "e.example").exists()
    five = (*three, "d.example", "e.example")
    code, said = await cloud.init(*(word for host in five for word in ("--machine", host)))
    assert code == 0 and "from 3 to 5 servers" in said, said


async def test_addresses_of_version_6_stand_in_the_printed_lines_as_scp_and_ssh_read_them(tmp_path: Path) -> None:
    hosts = [f"2001:db8::{number}" for number in range(1, 6)]
    cloud = Started(tmp_path / "cloud", tmp_path, {})
    for servers in (3, 5):
        code, said = await cloud.init(*(word for host in hosts[:servers] for word in ("--machine", host)))
        assert code == 0, said
        for host in hosts[1:servers]:
            assert f"ssh {host} heliograph init heliograph" in said
            assert re.search(rf"scp -rp \S+/{host}(/\*)? \[{host}\]:heliograph", said), said
        (cloud.directory / "broker" / "store").mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--servers", "3", "--mqtt-port", "4224"], "--mqtt-port: expected another port than --port has, 4222 to 4224"),
     (["--servers", "5", "--leaf-port", "6218"],
      "--route-port: expected another port than --leaf-port has, 6218 to 6222, got 6222"),
     (["--mqtt-port", "4222"], "expected another port than")],
)  # fmt: skip
async def test_ports_of_one_machine_that_collide_are_refused(tmp_path: Path, options: list[str], said: str) -> None:
    code, printed = await typed("init", str(tmp_path / "cloud"), *options, home=tmp_path)
    assert code != 0 and said in printed.replace("\n", " ") and "Traceback" not in printed, printed
    assert not (tmp_path / "cloud").exists()
