"""The log's disk is full, its reader is gone, its encoding is of last century, and devices send what commands a
terminal: every process goes on, and no line is forged."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.client import AsyncClient
from heliograph.local.child import Child
from heliograph.local.cluster import LocalCluster
from tests.cli.conftest import CommandLine
from tests.patience import HANGS

COMMAND = (sys.executable, "-m", "heliograph.cli.main")
EDGE = "edge-1"
HOSTILE = "x\x1b[2J\x1b]0;owned\x07\r\nagent edge-1 is ready\nerror: forged \u202e \u2028 caf\u00e9 \U0001f600"
"""What a device sends: it clears a screen, names a window, begins lines, and turns the direction of writing."""
LATIN = {"PYTHONIOENCODING": "latin-1", "LC_ALL": "C", "PYTHONUTF8": "0"}


BROKEN = "9> >(exec true); wait $!"
"""What a shell is told to get a pipe without a reader as file descriptor 9."""


async def ran(redirected: str, *words: str, **environment: str) -> tuple[int | None, str]:
    """Run a command whose stdout is redirected as a shell is told; return its exit code and what it says on stderr."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", f'exec {BROKEN}; exec "$@" {redirected}', "bash", *COMMAND, *words, env=os.environ | environment,
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    _, said = await process.communicate()
    return process.returncode, said.decode("utf-8", "replace")


async def test_a_commands_output_that_is_full_closed_or_latin_makes_no_traceback() -> None:
    full = "error: standard output: No space left on device\n"
    cases = {
        (">/dev/full", ()): (1, full),
        (">&9", ()): (1, ""),  # its reader wanted no more
        (">&-", ()): (0, ""),
        (">/dev/full 2>&-", ()): (1, ""),
        (">/dev/null", tuple(LATIN.items())): (0, ""),
    }
    found = await asyncio.gather(
        *(ran(redirected, "topics", **dict(environment)) for redirected, environment in cases),
        ran(">/dev/null", "up", "--help", **LATIN), ran(">/dev/full", "--version"),
    )  # fmt: skip
    assert found == [*cases.values(), (0, ""), (1, full)]


class Unread(Child):
    """A process whose lines nobody gets."""

    async def wait_ready(self, timeout: float) -> None:
        return


class UnreadCluster(LocalCluster):
    """A cluster whose processes print to wherever ``redirected`` says, as a shell is told."""

    redirected = ""

    def _new_child(self, name: str, argv: list[str], environment: dict[str, str]) -> Child:
        redirected = self.redirected.replace("NAME", name.replace(" ", "-"))
        shell = ["bash", "-c", f'exec {BROKEN}; exec "$@" {redirected}', "bash"]
        return Unread(name, [*shell, *argv], environment, self.directory, self.world, lambda line: None)


async def devices_command_terminals(cluster: LocalCluster) -> None:
    """Publish what commands terminals, wherever it is refused or stored, and good readings; return once the cloud has a
    good one."""
    node = cluster.nodes[EDGE].broker
    assert node is not None
    event: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": HOSTILE, "type": "t", "sequence": 1, "data": {}}
    bad = (json.dumps(event), json.dumps({"specversion": HOSTILE}), '{"a": "\\ud83d"}', HOSTILE, "\udcff")
    at = topics.TELEMETRY.at(edge=EDGE, device="hostile")
    async with (
        connect(node.url("", "mqtt")) as device,
        AsyncClient(cluster.server, timeout=HANGS, leader_timeout=HANGS) as client,
    ):
        await device.link.wait_up(HANGS)
        await client.edges.list()  # once a coordinator leads, there are streams
        stored = asyncio.create_task(_until_good(client))
        while not stored.done():  # the agent may not listen yet, and nobody can say so
            for body in bad:
                await device.publish(at, body.encode("utf-8", "surrogatepass"))
            await device.publish(at, json.dumps({"text": HOSTILE}).encode())
            await device.publish(at, b'{"good": true}')
            await asyncio.wait({stored}, timeout=0.2)
        await stored


async def _until_good(client: AsyncClient) -> None:
    async with asyncio.timeout(HANGS), client.bus.consume(topics.TELEMETRY.filter(), start=1) as events:
        async for each in events:
            if decode(each.body).data == {"good": True}:
                return


@pytest.mark.long
@pytest.mark.parametrize(
    "redirected", [">/dev/full 2>&1", ">&- 2>&-", ">&9 2>&1"], ids=["full", "closed", "broken-pipe"]
)
async def test_a_cluster_goes_on_whose_processes_cannot_say_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redirected: str
) -> None:
    monkeypatch.setattr(UnreadCluster, "redirected", redirected)
    async with UnreadCluster(tmp_path, [EDGE]) as cluster:
        await devices_command_terminals(cluster)
        assert [cluster.exit_code(name) for name in ("coordinator", "cloud", EDGE)] == [None] * 3


@pytest.mark.long
async def test_no_line_of_a_log_in_latin_is_forged_or_commands_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = " ".join(f"{name}={value}" for name, value in LATIN.items())
    monkeypatch.setattr(UnreadCluster, "redirected", f">{tmp_path}/NAME.log 2>&1")
    monkeypatch.setattr(UnreadCluster, "_new_child", _with(settings))
    async with UnreadCluster(tmp_path / "cluster", [EDGE]) as cluster:
        await devices_command_terminals(cluster)
        logs = [(tmp_path / f"{name}.log").read_bytes() for name in ("coordinator", "agent-cloud", f"agent-{EDGE}")]
        commands = ("logs --since 1h --no-follow", "events", "events -o json", "get edges -o yaml", "describe edges")
        type_in = CommandLine(tmp_path, cluster.server)
        processes = [await type_in.start(*words.split(), stdout=asyncio.subprocess.PIPE, **LATIN) for words in commands]
        shown = [each for process in processes for each in await process.communicate()]
    assert [process.returncode for process in processes] == [0] * len(commands), shown
    texts = [each.decode("latin-1") for each in (*logs, *shown)]
    assert "\\x1b[2J" in texts[2]  # it was there to be said
    for text in texts:
        assert [each for each in text if each in "\x1b\x07\r\u202e\u2028"] == []
        assert [line for line in text.splitlines() if line.startswith("error: forged")] == []
    assert texts[2].splitlines().count("agent edge-1 is ready") == 1


def _with(settings: str) -> Callable[..., Child]:
    made = UnreadCluster._new_child

    def new_child(self: UnreadCluster, name: str, argv: list[str], environment: dict[str, str]) -> Child:
        return made(self, name, ["env", *settings.split(), *argv], environment)

    return new_child


@pytest.mark.long
async def test_up_goes_on_where_the_disk_of_its_log_is_full(tmp_path: Path) -> None:
    login = tmp_path / "heliograph" / "cluster.json"
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        up = await CommandLine(tmp_path).start("up", "--edges", "1", "--state", str(tmp_path / "state"), stdout=full)
    finally:
        os.close(full)
    try:
        async with asyncio.timeout(HANGS):
            while up.returncode is None and not login.exists():
                await asyncio.sleep(0.05)  # it can say nothing
            async with AsyncClient(str(login), timeout=HANGS, leader_timeout=HANGS) as client:
                assert [each["metadata"]["name"] for each in await client.edges.list()] == ["cloud", EDGE]
        assert up.returncode is None
    finally:
        up.terminate()
        _, said = await up.communicate()
    assert (up.returncode, said) == (130, b"")
