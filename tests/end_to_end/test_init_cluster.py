"""``heliograph init --servers 3`` makes a cloud whose servers are a cluster, on one machine or on three."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shlex
import ssl
from pathlib import Path
from typing import Any

import pytest

from heliograph.client import AsyncClient
from tests.end_to_end.init_cluster import MACHINES, made, ports_in_a_row, running
from tests.local.started import Started, command_of, typed
from tests.patience import HANGS


def model(name: str) -> dict[str, Any]:
    return {"kind": "Model", "metadata": {"name": name}}


def keys_in(directory: Path) -> dict[str, str]:
    """Return the digest of each file that holds a key or a login, and of each account at a server."""
    ends = (".pem", ".key", ".creds", ".mqtt", ".json", ".jwt")
    files = {str(file.relative_to(directory)): file for file in directory.rglob("*") if file.suffix in ends}
    # the resolver hands accounts of edges on, and the authority writes them down later
    others = ("cloud/", "broker/store/", "broker-2/store/", "broker-3/store/", "broker/identity/accounts/",
              *(f"machines/{host}/broker/accounts/" for host in MACHINES))  # fmt: skip
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()
            if not name.startswith(others)}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("machines", [False, True], ids=["one machine", "three machines"])
async def test_any_server_may_be_killed(tmp_path: Path, machines: bool) -> None:
    async with running(tmp_path, machines) as (cloud, servers):
        await cloud.enrolled("edge-1", tmp_path / "node")
        async with (
            AsyncClient(str(cloud.operator), timeout=HANGS, leader_timeout=HANGS) as client,
            cloud.edge("edge-1", tmp_path / "node"),
        ):
            await cloud.online(client, "edge-1")
            await client.models.create(model("before"))
            before = keys_in(cloud.directory)
            code, said = await cloud.init()
            assert code == 0 and "none is due" in said and "restart" not in said and "carry" not in said, said
            assert keys_in(cloud.directory) == before
            for number, (machine, name) in enumerate(servers):
                await machine.kill(name)
                await client.models.create(model(f"without-{number}"))
                await cloud.online(client, "edge-1")
                await machine.begin(name)
            await cloud.enrolled("edge-2", tmp_path / "other node")  # the resolver hands its account on
            async with cloud.edge("edge-2", tmp_path / "other node"):
                await cloud.online(client, "edge-2")
            names = {each["metadata"]["name"] for each in await client.models.list()}
            assert names >= {"before", *(f"without-{number}" for number in range(3))}


async def test_a_cloud_of_one_server_that_has_stored_something_becomes_no_cluster_and_keeps_it(tmp_path: Path) -> None:
    cloud = Started(tmp_path / "cloud", tmp_path, {})
    port = ports_in_a_row(2)
    code, said = await cloud.init("--tls-name", "localhost", "--port", str(port), "--mqtt-port", str(port + 1))
    assert code == 0, said
    parts = ("broker", "coordinator")
    try:
        for name in parts:
            await cloud.start(name)
        async with AsyncClient(str(cloud.operator)) as client:
            await client.models.create(model("before"))
        for name in reversed(parts):
            await cloud.stop(name)
        for options in (("--servers", "3"), [word for host in MACHINES for word in ("--machine", host)]):
            code, said = await cloud.init(*options)
            assert code != 0 and "deletes what a server has stored alone" in said and "Traceback" not in said, said
        for name in parts:
            await cloud.start(name)
        async with AsyncClient(str(cloud.operator)) as client:
            assert [each["metadata"]["name"] for each in await client.models.list()] == ["before"]
    finally:
        for name in reversed(parts):
            await cloud.stop(name)


async def test_a_cloud_that_has_not_begun_may_become_a_cluster_and_not_one_server_again(tmp_path: Path) -> None:
    cloud = Started(tmp_path / "cloud", tmp_path, {})
    for servers in ((), ("--servers", "3")):
        code, said = await cloud.init("--tls-name", "localhost", *servers)
        assert code == 0, said
    assert (cloud.directory / "broker-3" / "nats.conf").exists()
    code, said = await cloud.init("--servers", "1")
    assert code != 0 and "3 or more" in said, said


async def test_a_machine_that_is_carried_to_has_no_login_and_signs_none(tmp_path: Path) -> None:
    cloud, servers = await made(tmp_path, machines=True)
    for machine, _ in servers[1:]:
        there = {file.name for file in machine.directory.rglob("*") if file.is_file()}
        assert not {"authority.json", "document-key.pem", "signing-key.pem"} & there
        assert not any(name.endswith((".creds", ".mqtt")) for name in there), there
        argv, _ = command_of(machine.directory / "systemd" / "heliograph-broker.service")
        assert argv[-1] == str(machine.directory / "broker" / "nats.conf")
        code, said = await machine.init("--port", "4222")
        assert code != 0 and "Type them on 127.0.0.1" in said, said
        code, said = await machine.init()
        assert code == 0 and "none is due" in said, said
        for words in (("servers",), ("secrets",), ("site", "hall", "--edge", "edge-1", "--tls-name", "hall.example")):
            code, said = await typed(words[0], str(machine.directory), *words[1:], home=tmp_path)
            assert code != 0 and "made the cloud, on 127.0.0.1" in said and "Traceback" not in said, said
    seeds = [line for file in cloud.directory.rglob("*.creds") for line in file.read_text().splitlines()
             if line.startswith("SU")]  # fmt: skip
    carried = "".join(file.read_text() for machine, _ in servers[1:] for file in machine.directory.rglob("*")
                      if file.is_file())  # fmt: skip
    assert seeds and not any(seed in carried for seed in seeds)


async def test_what_is_carried_again_replaces_what_a_machine_has(tmp_path: Path) -> None:
    cloud, servers = await made(tmp_path, machines=True)
    code, said = await cloud.init("--new-authority")
    assert code == 0, said
    for host, (machine, _) in zip(MACHINES[1:], servers[1:], strict=True):
        (line,) = (each.strip() for each in said.splitlines() if "scp" in each and host in each)
        here = line.replace("scp", "cp").replace(f"{host}:heliograph", shlex.quote(str(machine.directory)))
        run = await asyncio.create_subprocess_shell(here)
        assert await asyncio.wait_for(run.wait(), HANGS) == 0, here
        code, said_there = await machine.init()
        assert code == 0, said_there
        ours = [(each.directory / "tls" / "ca.pem").read_text() for each in (cloud, machine)]
        assert ours[0] == ours[1]


async def test_who_has_no_certificate_of_the_routes_is_no_server(tmp_path: Path) -> None:
    cloud, _ = await made(tmp_path, machines=True)
    await cloud.begin("broker")
    try:
        port = json.loads((cloud.directory / "broker" / "nats.conf").read_text())["cluster"]["port"]
        tls = cloud.directory / "tls"
        outcomes = []
        for files in (None, tls, tls / "routes"):
            context = ssl.create_default_context(cafile=tls / "routes" / "ca.pem")
            if files is not None:
                context.load_cert_chain(files / "server.pem", files / "server.key")
            outcomes.append(await handshake(port, context))
        assert outcomes == [False, False, True]
    finally:
        await cloud.stop("broker")


async def handshake(port: int, context: ssl.SSLContext) -> bool:
    """Return whether a server of the cluster takes a TLS connection at its port for routes, and answers on it."""
    async with asyncio.timeout(HANGS):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            except ConnectionRefusedError:  # it is starting
                continue
            except OSError:
                return False
            try:
                return (await reader.readline()).startswith(b"INFO")
            except OSError:
                return False
            finally:
                writer.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--servers", "2"], "expected 1, 3 or 5"), (["--servers", "3", "--machine", "a"], "a host for each of 3"),
     (["--machine", "a", "--machine", "a", "--machine", "b"], "a host for each of 3"),
     (["--machine", "a", "--machine", "../b", "--machine", "c"], "a host name or an IP address")],
)  # fmt: skip
async def test_servers_and_machines_that_do_not_fit_are_refused(tmp_path: Path, options: list[str], said: str) -> None:
    code, printed = await typed("init", str(tmp_path / "cloud"), *options, home=tmp_path)
    assert code != 0 and said in printed and "Traceback" not in printed, printed
    assert not (tmp_path / "cloud").exists()
