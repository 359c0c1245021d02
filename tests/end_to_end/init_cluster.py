"""A cloud that ``heliograph init`` has made with three servers, on one machine or on three."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from heliograph.local.nats_server import free_ports
from tests.local.started import Started

MACHINES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
"""Three addresses of loopback stand for three machines."""
FURTHER = ("127.0.0.4", "127.0.0.5")
"""Two more, by which the cluster may grow."""
MOST = 5
"""The most servers that a cluster has, and so the ports in a row of each kind."""


def ports_in_a_row(count: int) -> int:
    """Return the first of so many free ports."""
    while True:
        first = free_ports(1)[0]
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                for host in (*MACHINES, *FURTHER):
                    stack.enter_context(socket.socket()).bind((host, port))
            return first


async def made(tmp_path: Path, machines: bool) -> tuple[Started, list[tuple[Started, str]]]:
    """Make a cloud with three servers; return it, and where the unit of each server is."""
    cloud = Started(tmp_path / "my cloud", tmp_path, {})
    port = ports_in_a_row(3 * MOST)
    where = [word for host in MACHINES for word in ("--machine", host)] if machines else ["--tls-name", "localhost"]
    code, said = await cloud.init("--servers", "3", "--port", str(port), "--mqtt-port", str(port + MOST),
                                  "--route-port", str(port + 2 * MOST), *where)  # fmt: skip
    assert code == 0, said
    servers = [(cloud, "broker")]
    if not machines:
        return cloud, [*servers, (cloud, "broker-2"), (cloud, "broker-3")]
    for host in MACHINES[1:]:
        assert f"scp -rp '{cloud.directory / 'machines' / host}' {host}:heliograph" in said
        servers.append((await carried(cloud, host, tmp_path, servers=3), "broker"))
    return cloud, servers


async def carried(cloud: Started, host: str, tmp_path: Path, servers: int) -> Started:
    """Carry a new machine's directory there, and make its units; return where they are."""
    home = tmp_path / f"machine {host}"
    shutil.copytree(cloud.directory / "machines" / host, home)
    machine = Started(home, tmp_path, {})
    code, said = await machine.init()
    assert code == 0 and f"of {servers} is made" in said, said
    return machine


@contextlib.asynccontextmanager
async def running(tmp_path: Path, machines: bool) -> AsyncIterator[tuple[Started, list[tuple[Started, str]]]]:
    cloud, servers = await made(tmp_path, machines)
    try:
        for machine, name in servers:
            await machine.begin(name)
        for name in ("coordinator", "cloud"):
            await cloud.start(name)
        yield cloud, servers
    finally:
        for name in ("cloud", "coordinator"):
            await cloud.stop(name)
        for machine, name in servers:
            await machine.stop(name)
