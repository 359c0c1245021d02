"""A feature outside Heliograph, added by an entry point: ``tests/data/features/beacons`` beside a real cluster.

Each use runs in its own process, since a process discovers features once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from heliograph.bus.contract.features import ENTRY_POINTS
from heliograph.client import AsyncClient
from tests.outside_package import install
from tests.patience import HANGS

ROOT = Path(__file__).parents[2]
ENTRIES = ["beacons = beacons:DECLARATION", "beacons-again = beacons:DECLARATION", "broken = beacons.nowhere:NOTHING"]
BEACON = {"kind": "Beacon", "metadata": {"name": "north"}, "spec": {"flashes": 2}}
FLASHES = """
import asyncio
from beacons import FLASH, Flash
from heliograph import AsyncClient
from heliograph.bus.contract.permissions import permissions
from heliograph.bus.port import Port
from heliograph.core.world import World

async def main():
    async with AsyncClient() as client:
        assert await client.beacons.get("north") == await client.resources("beacons").get("north")
        port = Port(client.bus, World(), "cloud/lamp/1")
        for seconds in (0.1, 0.2):
            await port.publish(FLASH, Flash(seconds=seconds), beacon="north")
        print("stored", await client.bus.last_sequence("FLASHES"))
    for role in ("operator", "anonymous", "worker", "agent"):
        allowed = permissions(role, "cloud", edge="edge-1" if role == "agent" else "", login=role)
        print(role, "heliograph.event.flash.*" in allowed.publish)

asyncio.run(main())
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a fresh user who has installed the feature and two unusable ones."""
    installed = tmp_path / "installed"
    install(installed, "features", ENTRY_POINTS, ENTRIES)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HELIOGRAPH_")}
    state = {"XDG_STATE_HOME": str(tmp_path / "state"), "NO_COLOR": "1"}
    return kept | state | {"PYTHONPATH": str(installed), "PYTHONUNBUFFERED": "1"}


@asynccontextmanager
async def _started(environment: dict[str, str], *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, env=environment, cwd=environment["XDG_STATE_HOME"], stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.communicate()


async def _ran(environment: dict[str, str], *words: str, stdin: str = "") -> tuple[int, str, str]:
    async with asyncio.timeout(HANGS), _started(environment, *words) as process:
        out, err = await process.communicate(stdin.encode())
    return process.returncode or 0, out.decode(), err.decode()


async def _until(process: asyncio.subprocess.Process, words: str) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(HANGS):
        while not lines or words not in lines[-1]:
            raw = await process.stdout.readline()
            assert raw, lines
            lines.append(raw.decode().strip())
    return lines


@pytest.mark.long
async def test_a_feature_is_a_package_with_an_entry_point(environment: dict[str, str]) -> None:
    Path(environment["XDG_STATE_HOME"]).mkdir()
    heliograph = ("-m", "heliograph.cli.main")
    async with _started(environment, *heliograph, "up", "--edges", "1") as up:
        await _until(up, "Ctrl-C")
        login = Path(environment["XDG_STATE_HOME"]) / "heliograph" / "users" / "operator" / "cluster.json"

        code, out, err = await _ran(environment, *heliograph, "get", "beacons")
        assert (code, out) == (0, "")
        broken, again, nothing = sorted(err.splitlines(), key=lambda line: "broken" not in line)
        package = "of package outside-features is not used: "
        assert broken.startswith(f"warning: feature broken (beacons.nowhere:NOTHING) {package}")
        assert "ModuleNotFoundError" in broken
        assert again.startswith(f"warning: feature beacons-again (beacons:DECLARATION) {package}")
        assert again.endswith("field kind: expected a kind that no other feature declares, got Beacon")
        assert nothing == "there are no beacons"

        code, out, err = await _ran(environment, *heliograph, "apply", "-f", "-", stdin=json.dumps(BEACON))
        assert (code, out) == (0, "beacon/north created (Running)\n"), err
        none = BEACON | {"spec": {"flashes": 0}}
        code, _, err = await _ran(environment, *heliograph, "apply", "-f", "-", stdin=json.dumps(none))
        assert code == 1
        assert "field spec.flashes: expected greater than or equal to 1, got 0" in err
        async with AsyncClient(str(login)) as client:  # this process does not know beacons
            assert (await client.request("beacons", "status", {"name": "north"})) == {"phase": "Running", "seen": 0}

        async with _started(environment, *heliograph, "watch", "beacons/north") as watching:
            assert await _until(watching, "Running") == ["beacon/north Running"]
            code, out, err = await _ran(environment, "-c", FLASHES)
            assert code == 0, err
            assert out.splitlines() == ["stored 2", "operator True", "anonymous False", "worker False", "agent False"]
            assert await _until(watching, "Succeeded") == ["beacon/north Succeeded"]
            async with asyncio.timeout(HANGS):
                assert await watching.wait() == 0
        code, out, _ = await _ran(environment, *heliograph, "get", "beacons")
        assert [line.split() for line in out.splitlines()] == [["NAME", "PHASE", "SEEN"], ["north", "Succeeded", "2/2"]]

        south = BEACON | {"metadata": {"name": "south"}}
        await _ran(environment, *heliograph, "apply", "-f", "-", stdin=json.dumps(south))
        assert (await _ran(environment, *heliograph, "stop", "beacons/south"))[:2] == (0, "beacon/south stopped\n")
        assert (await _ran(environment, *heliograph, "watch", "beacon", "south"))[:2] == (2, "beacon/south Stopped\n")
        assert (await _ran(environment, *heliograph, "delete", "beacons/south"))[:2] == (0, "beacon/south deleted\n")

        stranger = {key: value for key, value in environment.items() if key != "PYTHONPATH"}
        code, _, err = await _ran(stranger, *heliograph, "get", "beacons")
        assert code == 2
        assert "expected jobs or services or incremental-jobs or pair-jobs or models or " in err
        assert "or edges or invitations or users or quarantines, got beacons" in err


async def test_its_topics_are_declared_but_not_in_the_reference(environment: dict[str, str]) -> None:
    Path(environment["XDG_STATE_HOME"]).mkdir()
    topics = ("-m", "heliograph.cli.main", "topics")
    code, out, _ = await _ran(environment, *topics)
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()][-1] == ["event/flash/{beacon}", "event"]
    document = json.loads((await _ran(environment, *topics, "--asyncapi"))[1])
    assert document["channels"]["flash"]["address"] == "heliograph/event/flash/{beacon}"
    assert document["components"]["schemas"]["Flash"]["required"] == ["seconds"]
    assert "Beacon" in document["components"]["schemas"]
    assert "beacons-create" in document["channels"]
    assert (await _ran(environment, *topics, "--markdown"))[1] == (ROOT / "topics.md").read_text()
