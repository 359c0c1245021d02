"""The units of an edge: systemd takes them, and what they start enrols a node and runs its agent."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from heliograph.client import AsyncClient
from heliograph.core.world import World
from heliograph.local.child import Child
from heliograph.local.mosquitto import Mosquitto
from tests.local.started import started, typed
from tests.patience import HANGS

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
PROGRAM, STATE = "/opt/heliograph/bin/heliograph", "/var/lib/heliograph"


def settings(name: str) -> dict[str, list[str]]:
    """Return the settings of a unit, each with all of its values."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def command(name: str, variables: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the words that systemd starts for a unit, and their environment."""
    unit = settings(name)
    environment = dict(word.partition("=")[::2] for line in unit["Environment"] for word in shlex.split(line))
    environment |= variables
    words: list[str] = []
    for word in unit["ExecStart"][0].split():
        if word.startswith("$") and not word.startswith("${"):
            words += environment[word[1:]].split()  # a variable that is a word of its own is split
            continue
        for key, value in environment.items():
            word = word.replace(f"${{{key}}}", value)
        words.append(word)
    assert words[0] == PROGRAM
    return [sys.executable, "-m", "heliograph.cli.main", *words[1:]], environment


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root directory with the units, where systemd's tools are."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    root = tmp_path / "root"
    target = root / "etc/systemd/system"
    target.mkdir(parents=True)
    shutil.copytree("/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.path"), *UNITS.parent.glob("nats/*.service")):
        shutil.copy2(unit, target)
    programs = (root / PROGRAM.lstrip("/")).parent
    programs.mkdir(parents=True)
    for name in ("heliograph", "nats-server"):
        shutil.copy2("/bin/true", programs / name)
    return root


def test_systemd_takes_the_units(root: Path) -> None:
    names = [each.name for each in (root / "etc/systemd/system").iterdir()]
    assert len(names) == 4
    run = subprocess.run(["systemd-analyze", "verify", f"--root={root}", *names], capture_output=True, text=True)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")
    broken = root / "etc/systemd/system/heliograph-agent.service"
    broken.write_text(broken.read_text().replace("OOMPolicy=continue", "OOMPolicy=sometimes"))
    run = subprocess.run(["systemd-analyze", "verify", f"--root={root}", *names], capture_output=True, text=True)
    assert "OOM policy" in run.stderr, "what is wrong would be seen"


def test_the_agents_unit_leaves_workers_their_cgroups_and_takes_roots_rights() -> None:
    unit = {key: values[-1] for key, values in settings("heliograph-agent.service").items()}
    assert (unit["Delegate"], unit["OOMPolicy"], unit["KillMode"]) == ("yes", "continue", "mixed")
    assert "ProtectControlGroups" not in unit and "PrivateDevices" not in unit
    assert (unit["User"], unit["NoNewPrivileges"], unit["CapabilityBoundingSet"]) == ("heliograph", "yes", "")
    assert unit["ProtectSystem"] == "strict"
    assert (unit["StateDirectory"], unit["StateDirectoryMode"]) == ("heliograph", "0700")
    condition = f"{STATE}/identity/cloud.json"
    assert unit["ConditionPathExists"] == settings("heliograph-agent.path")["PathExists"][0] == condition
    assert f"!{condition}" in settings("heliograph-enroll.service")["ConditionPathExists"]


def test_the_user_and_the_directories_are_made(tmp_path: Path) -> None:
    if shutil.which("systemd-sysusers") is None or os.geteuid():
        pytest.skip("systemd-sysusers is not installed, or this is not root")
    (tmp_path / "etc").mkdir()
    for name, program in (("sysusers", ["systemd-sysusers"]), ("tmpfiles", ["systemd-tmpfiles", "--create"])):
        file = tmp_path / f"usr/lib/{name}.d/heliograph.conf"
        file.parent.mkdir(parents=True)
        shutil.copy2(UNITS / f"heliograph.{name}", file)
        run = subprocess.run([*program, f"--root={tmp_path}", "heliograph.conf"], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    [user] = [line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines()
              if line.startswith("heliograph:")]  # fmt: skip
    assert user[5] == STATE and user[6].endswith("nologin")
    state = (tmp_path / STATE.lstrip("/")).stat()
    assert (oct(state.st_mode & 0o777), str(state.st_uid)) == ("0o700", user[2])


async def test_what_the_units_start_enrols_a_node_of_a_group_and_runs_its_agent(
    tmp_path: Path, mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> None:
    broker, state, credentials = await mosquitto(), tmp_path / "state", tmp_path / "credentials"
    async with started(tmp_path) as cloud:
        code, said = await typed("edge", "invite", "hall", "--nodes", "2", home=tmp_path, variables=cloud.as_operator)
        assert code == 0, said
        credentials.mkdir()
        (credentials / "invitation").write_text(
            next(line for line in said.splitlines() if line.startswith("heliograph-invitation."))
        )

        def child(unit: str, variables: Mapping[str, str]) -> Child:
            words, environment = command(unit, variables)
            there = [word.replace(STATE, str(state)).replace("%H", "Edge-7.hall") for word in words]
            return Child(unit, there, environment, tmp_path, World(), lambda line: None)

        enrol = child("heliograph-enroll.service", {"CREDENTIALS_DIRECTORY": str(credentials)})
        await enrol.start()
        assert enrol.process is not None and await enrol.process.wait() == 0, enrol.lines
        await enrol.stop()
        variables = {"HELIOGRAPH_NODE": f"mqtt://127.0.0.1:{broker.port}", "OPTIONS": "--label site=hall-3"}
        agent = child("heliograph-agent.service", variables)
        await agent.start()
        try:
            await agent.wait_ready(HANGS)
            async with AsyncClient(str(cloud.operator)) as client:
                names = [each["metadata"]["name"] for each in await client.edges.list()]
                [edge] = [name for name in names if name.startswith("hall-edge-7-hall-")]
                await cloud.online(client, edge)
        finally:
            await agent.stop()
