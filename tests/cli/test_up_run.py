"""``up`` and ``run`` as a user runs them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.local.cluster import LocalCluster
from tests.local.websocket_handshake import handshake
from tests.patience import HANGS

ROOT = Path(__file__).parents[2]
SCRIPT = """
import numpy as np
from heliograph import FederatedLearning, dataset
data = np.load(dataset())
model = {"mean": np.zeros(1, np.float32)}
def error(): return {"error": float(abs(model["mean"] - data["x"].mean()).sum())}
for _ in FederatedLearning(model, evaluate=error).rounds():
    model["mean"][:] = data["x"].mean()
print("saving", flush=True)
import threading
threading.Event().wait(1.5)  # a large result
open("result.txt", "w").write("saved")
raise RuntimeError("after the loop")
"""


FAILS = """def deep():
    raise ValueError('no such thing')
import numpy as np
from heliograph import FederatedLearning
model = {"w": np.zeros(1)}
for r in FederatedLearning(model, num_samples=1).rounds():
    if model["w"]: deep()
    model["w"] += 1
"""


@asynccontextmanager
async def _started(
    environment: dict[str, str], *words: str, cwd: Path = ROOT
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "heliograph.cli.main", *words, cwd=cwd, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.communicate()


async def _done(environment: dict[str, str], *words: str, cwd: Path = ROOT) -> tuple[int, str, str]:
    async with asyncio.timeout(HANGS), _started(environment, *words, cwd=cwd) as process:
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a fresh user without a cluster."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HELIOGRAPH_")}
    return kept | {"XDG_STATE_HOME": str(tmp_path / "state")}


async def test_an_address_to_bind_is_an_address(environment: dict[str, str]) -> None:
    code, _, error = await _done(environment, "up", "--bind", "cloud.example")
    assert code == 2
    assert "--bind" in error
    assert "expected an address of this machine, or 0.0.0.0 for all, got cloud.example" in error
    code, _, error = await _done(environment, "up", "--tls-name", "https://cloud.example")
    assert code != 0
    assert "expected a host name or an IP address, got https://cloud.example" in error
    assert "Traceback" not in error


async def test_a_cluster_beyond_loopback_is_reached_by_tls_with_a_users_files(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    words = ("up", "--edges", "1", "--user", "alice", "--bind", "0.0.0.0", "--tls-name", "localhost")
    async with asyncio.timeout(HANGS), _started(environment, *words) as process:
        assert process.stdout is not None
        printed = []
        while not printed or not printed[-1].startswith("Ctrl-C"):
            line = await process.stdout.readline()
            assert line, printed
            printed.append(line.decode().strip())
        (said,) = [line for line in printed if line.startswith("TLS")]
        assert Path(said.split()[3].rstrip(",")).is_file()
        assert any(line.startswith("NATS  tls://localhost:") for line in printed)
        assert any(line.startswith("MQTT  mqtts://localhost:") for line in printed)
        alice = tmp_path / "state" / "heliograph" / "users" / "alice"
        for more in ({}, {"HELIOGRAPH_SERVER": str(alice / "cluster.json")}):
            code, out, error = await _done(environment | more, "get", "edges")
            assert (code, "edge-1" in out) == (0, True), error
        published = await asyncio.create_subprocess_exec(
            sys.executable, "examples/publish_task.py", str(alice / "cluster.json"), "/dev/stdin", cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, why = await published.communicate(b'{"kind": "FederatedTask", "metadata": {"name": "digits"}}')
        assert why.startswith(b"refused: heliograph/request/jobs/create field spec"), why


@pytest.mark.long
async def test_the_lines_that_up_prints_work_as_printed(
    tmp_path: Path, environment: dict[str, str], mosquitto: object
) -> None:
    async with asyncio.timeout(HANGS), _started(environment, "up", "--edges", "2", "--user", "alice") as process:
        assert process.stdout is not None
        printed = []
        while not printed or not printed[-1].startswith("Ctrl-C"):
            line = await process.stdout.readline()
            assert line, printed
            printed.append(line.decode().strip())
        publish, subscribe = (
            next(line for line in printed if f" mosquitto_{what} " in line) for what in ("pub", "sub")
        )
        home = tmp_path / "state" / "heliograph"
        cluster = home / "cluster.json"
        urls = [json.loads(file.read_text())["server"] for file in (cluster, *home.glob("users/*/cluster.json"))]
        assert len(set(urls)) == 2
        secrets = [json.loads(file.read_text())["mqtt"] for file in (cluster, *home.glob("users/*/cluster.json"))]
        assert not [url for url in secrets if ConnectionUrl.parse(url).credentials.password in "\n".join(printed)]
        files = [path for path in home.rglob("*") if path.is_file()]
        assert len(files) == 11
        assert [str(path) for path in files if stat.S_IMODE(path.stat().st_mode) != 0o600] == []
        assert stat.S_IMODE((home / "users" / "alice").stat().st_mode) == 0o700

        refused = await asyncio.create_subprocess_exec(
            *(sys.executable, "examples/publish_task.py", str(home / "users" / "alice" / "cluster.json"), "/dev/stdin"),
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, why = await refused.communicate(b'{"kind": "FederatedTask", "metadata": {"name": "digits"}}')
        assert refused.returncode == 1
        assert why.startswith(b"refused: heliograph/request/jobs/create field spec"), why

        listening = await asyncio.create_subprocess_shell(f"exec env {subscribe}", stdout=asyncio.subprocess.PIPE)
        assert await (await asyncio.create_subprocess_shell(publish, cwd=ROOT)).wait() == 0
        assert listening.stdout is not None
        while True:
            topic, _, body = (await listening.stdout.readline()).decode().partition(" ")
            if topic == "heliograph/status/jobs/digits" and json.loads(body)["data"]["status"]["rounds"]:
                break
        listening.terminate()
        await listening.wait()
        again = await asyncio.create_subprocess_exec(  # the same task again: it follows the one that runs
            *(sys.executable, "examples/publish_task.py", str(home / "users" / "alice" / "cluster.json")),
            "examples/federated-task.json", cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await again.communicate()
        assert again.returncode == 0
        assert out.splitlines()[-1].startswith(b"digits Succeeded: round ")
        watching = await _done(environment, "watch", "jobs/digits")
        assert watching[0] == 0, watching
        code, out, _ = await _done(environment, "get", "models", "digits", "-o", "json")
        assert code == 0
        assert json.loads(out)["status"]["versions"][0]["metrics"].keys() >= {"accuracy"}

        alice = home / "users" / "alice"
        code, out, _ = await _done(environment | {"HELIOGRAPH_SERVER": str(alice / "cluster.json")}, "get", "jobs")
        assert code == 0
        assert "digits" in out
        request = shlex.join(["mosquitto_rr", "-q", "1", "-t", "heliograph/request/models/get",
                              "-e", "heliograph/reply/alice/1", "-W", "30",
                              "-m", '{"name": "digits", "reply_to": "heliograph/reply/alice/1"}'])  # fmt: skip
        asking = await asyncio.create_subprocess_shell(
            f"XDG_CONFIG_HOME={shlex.quote(str(alice))} {request}", stdout=asyncio.subprocess.PIPE
        )
        assert json.loads((await asking.communicate())[0])["result"]["metadata"]["name"] == "digits"

        code, _, err = await _done(environment, "up")
        assert code == 1
        assert err.startswith("error: a cluster is up already")
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    assert not cluster.exists()
    assert not (home / "users").exists()
    code, _, err = await _done(environment, "get", "jobs")
    assert code == 5
    assert "no cluster found" in err


async def test_whoever_presses_ctrl_c_twice_interrupts_no_end(environment: dict[str, str]) -> None:
    async with asyncio.timeout(HANGS), _started(environment, "up", "--edges", "1") as process:
        assert process.stdout is not None and process.stderr is not None
        while not (await process.stdout.readline()).startswith(b"Ctrl-C"):
            assert not process.stdout.at_eof()
        process.send_signal(signal.SIGINT)
        assert b"stopping" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        assert await process.stderr.read() == b""


@pytest.mark.long
async def test_files_of_up_are_its_users_alone(tmp_path: Path, environment: dict[str, str]) -> None:
    kept = tmp_path / "kept"
    (kept / "data").mkdir(parents=True)  # as an earlier release made it
    before = os.umask(0o022)
    try:
        async with asyncio.timeout(HANGS), _started(environment, "up", "--edges", "1", "--state", str(kept)) as process:
            assert process.stdout is not None
            while not (await process.stdout.readline()).startswith(b"Ctrl-C"):
                assert not process.stdout.at_eof()
    finally:
        os.umask(before)
    top = {path.name: path for path in kept.iterdir()}
    assert {"broker", "cloud", "edge-1", "data", "log.txt", "logins.json"} <= top.keys()
    assert [name for name, path in sorted(top.items()) if path.stat().st_mode & 0o077] == []
    made = [*kept.rglob("journal.db"), *kept.rglob("nats.conf"), *kept.rglob("*.npz"), *kept.rglob("nats.log")]
    assert len(made) >= 6
    assert [str(path) for path in made if path.stat().st_mode & 0o077] == []


@pytest.mark.long
async def test_tokens_and_ports_survive_a_restart_and_a_removed_user_gets_another(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    found = []
    for users in (["alice", "bob"], ["alice"], ["bob", "alice"]):
        words = ["up", "--edges", "1", "--state", str(tmp_path / "kept"), *(f"--user={name}" for name in users)]
        async with asyncio.timeout(HANGS), _started(environment, *words) as process:
            assert process.stdout is not None
            while not (await process.stdout.readline()).startswith(b"Ctrl-C"):
                assert not process.stdout.at_eof()
            home = tmp_path / "state" / "heliograph" / "users"
            assert sorted(path.name for path in home.iterdir()) == sorted(["operator", *users])
            found.append({path.name: json.loads((path / "cluster.json").read_text()) for path in home.iterdir()})
    first, second, third = ({name: (each["server"], each["mqtt"]) for name, each in one.items()} for one in found)
    assert first["operator"] == second["operator"] == third["operator"]
    assert first["alice"] == second["alice"] == third["alice"]
    assert first["bob"] != third["bob"]


async def test_up_listens_for_websockets_where_it_is_asked_to(tmp_path: Path, environment: dict[str, str]) -> None:
    words = ("up", "--edges", "1", "--websocket", "--websocket-origin", "https://app.example")
    async with asyncio.timeout(HANGS), _started(environment, *words) as process:
        assert process.stdout is not None
        line = b""
        while not line.startswith(b"WebSocket"):
            line = await process.stdout.readline()
            assert line
        found = re.search(r"ws://127\.0\.0\.1:(\d+), .*; pages of https://app\.example$", line.decode().rstrip())
        assert found is not None
        assert await handshake(int(found[1]), "https://app.example") == 101
        assert await handshake(int(found[1]), "https://evil.example") == 403


async def test_run_federates_a_script_over_parts_of_a_file(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "My Script.py").write_text(SCRIPT)
    np.savez(tmp_path / "data.npz", x=np.arange(40, dtype=np.float32), y=np.arange(40) % 4)
    words = "run", "My Script.py", "--edges", "2", "--rounds", "2", "--data", "data.npz", "--split", "dirichlet:1"
    code, out, err = await _done(environment, *words, "--test", "0.25", cwd=tmp_path)
    assert code == 0, out + err
    assert "job/my-script Succeeded: 2 rounds" in out
    assert re.search(r"round 2.* error=", out)  # the mean stands on the round's own line, or on a later one
    left = tmp_path / "heliograph-runs" / "My Script-1" / "edges"
    assert len([*left.rglob("result.txt")]) == 3  # the edges', and that of the evaluation
    for edge in ("edge-1", "edge-2"):
        assert f"{edge}: ended after its job with exit code 1: RuntimeError: after the loop" in out
    with TensorFile(tmp_path / "My Script.safetensors") as model:
        trained = float(model.numpy("mean")[0])
    with np.load(tmp_path / "data.npz") as data:
        assert abs(trained - data["x"].mean()) < 6  # the mean of the 30 training samples


@pytest.mark.long
async def test_a_run_whose_script_fails_in_round_2_shows_its_lines_and_keeps_the_model_of_round_1(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "bad.py").write_text(FAILS)
    code, out, err = await _done(environment, "run", "bad.py", "--edges", "1", cwd=tmp_path)
    assert code == 1
    assert 'bad.py", line 2, in deep' in out
    assert "runpy" not in out
    assert err.count("\n") == 1
    assert "ValueError: no such thing" in err
    assert "edge-1: counted in round 1\n" in out
    assert "the model of round 1: bad.safetensors\n" in out
    with TensorFile(tmp_path / "bad.safetensors") as model:
        assert model.numpy("w").tolist() == [1.0]
    assert "no such thing" in (tmp_path / "heliograph-runs" / "bad-1" / "log.txt").read_text()


@pytest.mark.parametrize(
    "words, expected",
    [
        (("run", "none.py"), "none.py: there is no such script"),
        (("run", "x.py", "--data", "none.npz"), "none.npz: there is no such file"),
        (("run", "x.py", "--test", "0.2"), "field --test: expected --data with it"),
        (("run", "x.py", "--split", "half"), "field --split"),
        (("run", "x.py", "--test", "1.5", "--data", "x.py"), "field --test"),
        (("demo", "--edge-broker", "edge-9=mqtt://h"), "field --edge-broker"),
        (("demo", "--edge-broker", "edge-1"), "field --edge-broker"),
        (("demo", "--edges", "0"), "--edges"),
        (("demo", "--framework", "jax"), "--framework"),
        (("up", "--edges", "many"), "--edges"),
        (("up", "--user", "edge-1"), "field user: expected a name that no component and no edge has, got edge-1"),
        (("up", "--user", "agent-x"), "field user: expected a name that no component and no edge has, got agent-x"),
        (("up", "--user", "coordinator"), "field user: expected a name that no component and no edge has"),
        (("up", "--user", "a.*"), "field user: expected a DNS label"),
        (("up", "--user", "participant-x"), "field user: expected a name that no component and no edge has"),
        (("up", "--participant", "edge-1"), "field participant: expected a name that no edge has, got edge-1"),
        (("up", "--participant", "A"), "field participant: expected a DNS label"),
        (("up", "--websocket-origin", "https://a.example"), "--websocket-origin: expected --websocket with it"),
        (("up", "--websocket", "--websocket-origin", "a.example"), "--websocket-origin: expected http://HOST"),
        (("up", "--websocket", "--websocket-origin", "https://a.example/x"), "--websocket-origin: expected http://"),
    ],
)
def test_errors_of_up_and_run_are_one_line(
    tmp_path: Path, typed: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], expected: str
) -> None:
    async def started(cluster: LocalCluster) -> None:
        raise AssertionError("a cluster starts")

    monkeypatch.setattr(LocalCluster, "start", started)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.py").write_text("")
    ran = typed(*words)
    assert ran.code in (1, 2)
    assert expected in ran.err
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err
