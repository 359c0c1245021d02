"""The cluster of a command: ``--server``, then HELIOGRAPH_SERVER, then the one that ``up`` started."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from heliograph.local.nats_server import free_ports

with_cluster = pytest.mark.asyncio(loop_scope="module")


def _announce(state: Path, server: object, pid: object) -> Path:
    """Write the file that ``heliograph up`` writes."""
    file = state / "heliograph" / "cluster.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"pid": pid, "server": server}))
    return file


def _nobody() -> str:
    return f"nats://127.0.0.1:{free_ports(1)[0]}"


@with_cluster
async def test_option_variable_and_file_each_name_the_cluster(alone: Any, cluster: Any) -> None:
    get = ("get", "edges/edge-1")
    assert (await alone(*get, "--server", cluster.server)).code == 0
    assert (await alone(*get, "--server", cluster.door)).code == 0  # MQTT
    own = alone.state / "own.json"
    own.parent.mkdir(exist_ok=True)
    own.write_text(json.dumps({"server": cluster.server}))
    assert (await alone(*get, "--server", own)).code == 0
    assert (await alone(*get, HELIOGRAPH_SERVER=str(own))).code == 0
    assert (await alone(*get, HELIOGRAPH_SERVER=cluster.server)).code == 0
    assert (await alone(*get)).code == 5
    _announce(alone.state, cluster.server, os.getpid())
    assert (await alone(*get)).code == 0


@with_cluster
@pytest.mark.long
async def test_the_option_comes_before_the_variable_and_both_before_the_file(alone: Any, cluster: Any) -> None:
    nobody = _nobody()
    _announce(alone.state, cluster.server, os.getpid())
    by_variable, by_option = await asyncio.gather(
        alone.apart("get", "edges", HELIOGRAPH_SERVER=nobody),
        alone.apart("get", "edges", "--server", nobody, HELIOGRAPH_SERVER=cluster.server),
    )
    assert by_variable.code == by_option.code == 5
    assert f"cannot reach {nobody} (from HELIOGRAPH_SERVER): " in by_variable.error
    assert f"cannot reach {nobody}: " in by_option.error
    assert by_option.error.endswith("or mend the port (usual: 4222).")
    assert (await alone("get", "edges", "--server", cluster.server, HELIOGRAPH_SERVER=nobody)).code == 0
    assert (await alone("get", "edges", HELIOGRAPH_SERVER="")).code == 0  # an empty variable counts as unset


def test_without_a_cluster_the_error_says_how_to_start_or_name_one(typed: Any, where: Path) -> None:
    ran = typed("get", "jobs")
    assert ran.code == 5
    for word in ("heliograph up", "--server nats://", "HELIOGRAPH_SERVER"):
        assert word in ran.error


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": "x", "server": "y"}', '{"pid": 1e99, "server": "y"}'])
def test_an_invalid_cluster_file_is_ignored(typed: Any, where: Path, content: str) -> None:
    _announce(where, "", 0).write_text(content)
    assert typed("get", "jobs").error.startswith("no cluster found")


def test_the_file_of_an_ended_cluster_is_ignored(typed: Any, where: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    _announce(where, "nats://127.0.0.1:4222", ended.pid)
    assert typed("get", "jobs").error.startswith("no cluster found")


@pytest.mark.parametrize(
    "url",
    ["", "foo", "localhost:4222", "http://localhost:4222", "nats://", "nats://:4222", "nats://h:99999", "mqtt://[::1"],
)
def test_an_invalid_url_is_refused_at_once(typed: Any, where: Path, url: str) -> None:
    ran = typed("get", "jobs", "--server", url)
    assert ran.code == 1
    assert ran.error == f"field server: expected nats://HOST:PORT or mqtt://HOST:PORT, got {url or 'nothing'}"


@pytest.mark.parametrize("content", ["", "[]", "{}", "no json"])
def test_a_file_that_names_no_server_is_refused_at_once(typed: Any, where: Path, content: str) -> None:
    file = where / "own.json"
    file.write_text(content)
    ran = typed("get", "jobs", "--server", str(file))
    assert ran.code == 1
    assert ran.error.startswith(f"field server: expected a cluster.json that 'heliograph up' has written, got {file} (")


@with_cluster
async def test_without_a_login_the_error_says_where_one_is(alone: Any, cluster: Any) -> None:
    for scheme in ("nats", "mqtt"):
        ran = await alone("get", "jobs", "--server", cluster.broker.url(scheme=scheme))
        assert ran.code == 6
        assert "only a login may send requests; anonymous clients read status" in ran.error
        assert "--user" in ran.error


def test_an_error_shows_no_password(typed: Any, where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_SERVER", "http://user:secret@host:1")
    assert typed("get", "jobs").error == (
        "field HELIOGRAPH_SERVER: expected nats://HOST:PORT or mqtt://HOST:PORT, got host:1"
    )


@with_cluster
async def test_a_wrong_login_is_reported_as_one(alone: Any, cluster: Any) -> None:
    place = cluster.broker.url().removeprefix("nats://")
    ran = await alone("get", "jobs", "--server", f"nats://operator:guess@{place}")
    assert ran.code == 6
    assert f"cannot reach nats://{place}: " in ran.error
    assert "refuses this login" in ran.error and "Check user and password" in ran.error
    assert "guess" not in ran.error


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of the file that ``up`` writes."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("HELIOGRAPH_SERVER", raising=False)
    return tmp_path
