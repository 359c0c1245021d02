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

import numpy as np
import pytest

from heliograph.bus.contract.weights_file import TensorFile
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


async def test_the_lines_that_up_prints_work_as_printed(
    tmp_path: Path, environment: dict[str, str], mosquitto: object
) -> None:
    async with asyncio.timeout(HANGS), _started(environment, "up", "--edges", "2") as process:
        assert process.stdout is not None
        printed = []
        while not printed or not printed[-1].startswith("Ctrl-C"):
            line = await process.stdout.readline()
            assert line, printed
            printed.append(line.decode().strip())
        publish, subscribe = (
            next(line for line in printed if line.startswith(f"mosquitto_{what}")) for what in ("pub", "sub")
        )
        cluster = tmp_path / "state" / "heliograph" / "cluster.json"
        assert stat.S_IMODE(cluster.stat().st_mode) == 0o600
        assert json.loads(cluster.read_text())["server"].partition("@")[0] not in "\n".join(
            printed
        )  # without passwords

        listening = await asyncio.create_subprocess_exec(*shlex.split(subscribe), stdout=asyncio.subprocess.PIPE)
        assert await (await asyncio.create_subprocess_exec(*shlex.split(publish), cwd=ROOT)).wait() == 0
        assert listening.stdout is not None
        while True:
            topic, _, body = (await listening.stdout.readline()).decode().partition(" ")
            if topic == "heliograph/status/jobs/digits" and json.loads(body)["data"]["status"]["rounds"]:
                break
        listening.terminate()
        await listening.wait()
        watching = await _done(environment, "watch", "jobs/digits")
        assert watching[0] == 0, watching
        code, out, _ = await _done(environment, "get", "models", "digits", "-o", "json")
        assert code == 0
        assert json.loads(out)["status"]["versions"][0]["metrics"].keys() >= {"accuracy"}

        code, _, err = await _done(environment, "up")
        assert code == 1
        assert err.startswith("error: a cluster is up already")
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    assert not cluster.exists()
    code, _, err = await _done(environment, "get", "jobs")
    assert code == 1
    assert "no cluster found" in err


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
    assert {"broker", "cloud", "edge-1", "data", "log.txt"} <= top.keys()
    assert [name for name, path in sorted(top.items()) if path.stat().st_mode & 0o077] == []
    made = [*kept.rglob("journal.db"), *kept.rglob("nats.conf"), *kept.rglob("*.npz"), *kept.rglob("nats.log")]
    assert len(made) >= 6
    assert [str(path) for path in made if path.stat().st_mode & 0o077] == []


async def test_run_federates_a_script_over_parts_of_a_file(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "My Script.py").write_text(SCRIPT)
    np.savez(tmp_path / "data.npz", x=np.arange(40, dtype=np.float32), y=np.arange(40) % 4)
    words = "run", "My Script.py", "--edges", "2", "--rounds", "2", "--data", "data.npz", "--split", "dirichlet:1"
    code, out, err = await _done(environment, *words, "--test", "0.25", cwd=tmp_path)
    assert code == 0, out + err
    assert "job/my-script Succeeded: 2 rounds" in out
    assert re.search(r"round 2.* error=", out)  # the mean stands on the round's own line, or on a later one
    with TensorFile(tmp_path / "My Script.safetensors") as model:
        trained = float(model.numpy("mean")[0])
    with np.load(tmp_path / "data.npz") as data:
        assert abs(trained - data["x"].mean()) < 6  # the mean of the 30 training samples


async def test_run_shows_the_lines_of_a_script_that_fails(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "bad.py").write_text("def deep():\n    raise ValueError('no such thing')\ndeep()\n")
    code, out, err = await _done(environment, "run", "bad.py", "--edges", "1", cwd=tmp_path)
    assert code == 1
    assert 'bad.py", line 2, in deep' in out
    assert "runpy" not in out
    assert err.count("\n") == 1
    assert "ValueError: no such thing" in err


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
    ],
)
async def test_errors_of_up_and_run_are_one_line(
    tmp_path: Path, environment: dict[str, str], words: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "x.py").write_text("")
    code, _, err = await _done(environment, *words, cwd=tmp_path)
    assert code in (1, 2)
    assert expected in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
