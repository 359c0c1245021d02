"""``up`` on ports that its clients know: given ones, those of the last start, and ones that others have taken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heliograph.core.world import World
from heliograph.local.logins import FILE, Logins
from heliograph.local.nats_server import Broker, User, free_ports
from heliograph.local.ports import fixed_ports, holder_of
from tests.cli.conftest import CommandLine
from tests.patience import HANGS

USERS = (User("operator", "of-operator", "operator"),)
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which process has a port")


def free_row(count: int) -> int:
    """Return the first of so many free ports in a row, below those that the kernel gives to connections."""
    for first in range(20_000, 30_000, count):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports in a row")


def commands() -> Iterator[list[str]]:
    """Yield the words of each process's command."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            yield file.read_text(errors="replace").split("\0")


async def test_up_listens_at_the_given_port_and_code_is_where_it_was_typed(
    alone: CommandLine, read_until: Callable[..., Any], project: Path, tmp_path: Path
) -> None:
    first = free_row(20)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "heliograph.cli.main", "up", "--edges", "1", "--port", str(first), "--code", ".",
          "--state", "state"),
        cwd=project, stdout=asyncio.subprocess.PIPE, env=os.environ | {"XDG_STATE_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    try:
        assert (await read_until(process.stdout, "MQTT")).startswith(f"MQTT  mqtt://127.0.0.1:{first + 1},")
        assert await read_until(process.stdout, "NATS") == f"NATS  nats://127.0.0.1:{first}"
        assert str(first + 11) in await read_until(process.stdout, "on edge-1")
        await read_until(process.stdout, "Ctrl-C")
        kept = json.loads((project / "state" / FILE).read_text())
        assert kept["ports"] == {"port": first, "mqtt_port": first + 1, "websocket_port": first + 2, "door_port": 0}
        assert kept["nodes"]["edge-1"]["mqtt_port"] == first + 11
        agents = [words for words in commands() if "edge-1" in words and str(project) in words]
        assert agents or sys.platform != "linux"

        refused = await alone.apart("up", "--port", str(first))
        assert refused.code == 1
        assert f"port {first} is in use by process " in refused.err
        assert "end it, or let this cluster start at another --port" in refused.err
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(HANGS):
            await process.communicate()


def _broker(directory: Path, name: str, ports: tuple[int, int] = (0, 0)) -> Broker:
    return Broker(directory / name, "node", USERS, name=name, port=ports[0], mqtt_port=ports[1])


def test_edges_listen_where_they_did_at_the_last_start(tmp_path: Path) -> None:
    first = free_ports(6)
    pairs = dict(zip(("cloud", "edge-1", "edge-2"), zip(first[::2], first[1::2], strict=True), strict=True))
    before = {name: _broker(tmp_path, name, ports) for name, ports in pairs.items()}
    Logins(tmp_path, ("operator",), World()).save(before.pop("cloud"), nodes=before)

    again = {name: _broker(tmp_path, name) for name in pairs}
    cloud = again.pop("cloud")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", pairs["edge-2"][1]))
        taken.listen()
        said = Logins(tmp_path, ("operator",), World()).choose_ports(cloud, nodes=again)
    assert (cloud.port, cloud.mqtt_port) == pairs["cloud"]
    assert (again["edge-1"].port, again["edge-1"].mqtt_port) == pairs["edge-1"]
    assert (again["edge-2"].port, again["edge-2"].mqtt_port) == (0, 0)
    assert len(said) == 1 and f"port {pairs['edge-2'][1]} is in use by" in said[0] and "broker edge-2" in said[0]


def test_a_file_of_the_last_release_has_no_ports_of_edges(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"tokens": {}, "ports": {}}))
    assert Logins(tmp_path, ("operator",), World()).choose_ports(_broker(tmp_path, "cloud")) == []


def test_no_two_brokers_share_a_port() -> None:
    cloud, edges = fixed_ports(4222, [f"edge-{number}" for number in range(200)])
    every = [*cloud.values(), *(port for ports in edges.values() for port in ports.values())]
    assert len(set(every)) == len(every) == 403
    assert min(every) == 4222


@linux
def test_the_holder_of_a_port_is_named() -> None:
    with socket.socket() as mine:
        mine.bind(("127.0.0.1", 0))
        mine.listen()
        assert holder_of(mine.getsockname()[1]).startswith(f"process {os.getpid()} (")
    (free,) = free_ports(1)
    assert "another user" in holder_of(free)
