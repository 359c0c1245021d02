"""A package of training code from a folder on a desk to a job on an edge, over real processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from heliograph.algorithm_files import pack
from heliograph.bus.contract import topics
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.core.signing import Signer
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from tests.packed import packed
from tests.patience import HANGS

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from heliograph import FederatedLearning, dataset, parameters
from parts.names import NAME

model = {"w": np.zeros(3, np.float32)}
seen = {"name": NAME, "note": Path("note.txt").read_text(), "arguments": sys.argv[1:], "file": __file__}
Path("seen.json").write_text(json.dumps(seen))
for r in FederatedLearning(model, num_samples=np.load(dataset())["x"].shape[0]).rounds():
    model["w"] += parameters()["step"]
    r.report(loss=1.0)
"""


async def _until(client: AsyncClient, name: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the job once its document satisfies ``holds``; read it again after each change of jobs or edges."""
    async with asyncio.timeout(HANGS), client.bus.subscribe(topics.STATUS.filter(resource="jobs")) as changes:
        while not holds(found := await client.jobs.get(name)):
            await anext(changes)
        return found


async def _heliograph(*words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "heliograph.cli.main", *words, stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def _says(job: dict[str, Any]) -> str:
    return json.dumps(job["status"].get("conditions", []))


SERVING = """
import numpy as np
from heliograph import JointInference
from parts.names import NAME

JointInference("vision", edge=lambda rows: np.stack(rows), rule="never").serve()
"""


async def _served(client: AsyncClient, cluster: LocalCluster, code: Path) -> dict[str, Any]:
    """Return the answer of a service whose worker runs a package that the operator has allowed."""
    (code / "serve.py").write_text(SERVING)
    package = pack(code, {"entryPoint": "serve.py"})
    await client.upload_algorithm("serving", package)
    await _heliograph("algorithms", "allow", package.digest, "--file", str(cluster.allowed_packages))
    await client.models.create({"kind": "Model", "metadata": {"name": "eyes"}})
    await client.services.create({"kind": "JointInferenceService", "metadata": {"name": "vision"}, "spec": {
        "edgeWorker": {"model": {"name": "eyes"}, "algorithm": {"name": "serving"}},
        "hardSampleRule": {"name": "never"},
    }})  # fmt: skip
    async with asyncio.timeout(HANGS):
        async for service in client.services.watch("vision"):
            if service["status"]["phase"] == "Running":
                break
    assert service["status"]["packages"]["serving"]["digest"] == package.digest
    with pytest.raises(Refused, match="services/vision runs"):
        await client.algorithms.delete("serving")
    broker = cluster.nodes["edge-1"].broker
    assert broker is not None
    async with asyncio.timeout(HANGS), aiomqtt.Client(broker.host, broker.mqtt_port) as device:
        await device.subscribe("heliograph/reply/device/1")
        body = {"input": [0.1, 0.9], "reply_to": "heliograph/reply/device/1"}
        await device.publish("heliograph/inference/vision/request", json.dumps(body))
        return dict(json.loads(bytes((await anext(device.messages)).payload)))


@pytest.mark.long
async def test_a_package_runs_where_it_is_allowed_and_waits_elsewhere(tmp_path: Path, regression: Any) -> None:
    code = tmp_path / "digits"
    (code / "parts").mkdir(parents=True)
    (code / "train.py").write_text(SCRIPT)
    (code / "parts" / "names.py").write_text("NAME = 'of the package'\n")
    (code / "note.txt").write_text("beside it")
    parameters = {"step": {"type": "number", "default": 0.5}}
    package = pack(code, {"entryPoint": "train.py", "framework": "numpy", "parameters": parameters})
    operator = Signer.made(World())
    (tmp_path / "keys.pem").write_text(operator.public_key)
    trusting = ("env", f"HELIOGRAPH_PACKAGE_KEYS={tmp_path / 'keys.pem'}", sys.executable, "-m", "heliograph.cli.main")
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1"], datasets={"edge-1": {"data": regression("one")}},
                           logins={"developer": "of-developer"}, program=lambda node: trusting)  # fmt: skip
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client:
        async with AsyncClient(cluster.door_of("developer")) as developer:  # no object store: it travels inline
            await developer.upload_algorithm("small", packed())
        await client.upload_algorithm("digits", package)
        await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        worker = {"dataset": {"name": "data"}, "algorithm": {"name": "digits"}, "trainScriptArguments": ["--fast"]}

        def job(name: str, **changes: Any) -> dict[str, Any]:
            return {"kind": "FederatedTask", "metadata": {"name": name}, "spec": {
                "aggregationWorker": {"model": {"name": "line"}}, "rounds": 2,
                "trainingWorkers": [{"name": "train", "nodeName": "edge-1", "workerSpec": worker | changes}],
            }}  # fmt: skip

        with pytest.raises(Refused, match="expected one of step, got speed"):
            await client.jobs.create(job("job", parameters=[{"key": "speed", "value": 1}]))
        await client.jobs.create(job("job"))
        await _until(client, "job", lambda job: "is not allowed on this node" in _says(job))

        told = await _heliograph("algorithms", "allow", package.digest, "--file", str(cluster.allowed_packages))
        assert f"package {package.digest[:12]} added" in told
        ended = await _until(client, "job", lambda job: job["status"]["phase"] in ("Succeeded", "Failed"))
        assert ended["status"]["phase"] == "Succeeded", _says(ended)
        assert [each["counted"] for each in ended["status"]["rounds"]] == [1, 1]
        assert ended["status"]["packages"]["digits"]["digest"] == package.digest

        state = cluster.nodes["edge-1"].directory / "state"
        seen = json.loads((state / "outputs" / "job" / "job-train" / "seen.json").read_text())
        folder = state / "packages" / package.digest
        assert seen["file"] == str(folder / "train.py")
        assert (seen["name"], seen["note"], seen["arguments"]) == ("of the package", "beside it", ["--fast"])
        found = {each["metadata"]["name"]: each["status"] for each in await client.algorithms.list()}
        assert found["digits"]["edges"] == ["edge-1"]
        assert found["small"]["available"] == packed().digest

        (code / "note.txt").write_text("signed")  # another digest, which nobody lists
        signed = pack(code, {"entryPoint": "train.py", "parameters": parameters})
        await client.upload_algorithm("digits", signed)
        await client.jobs.create(job("second"))
        await _until(client, "second", lambda job: "it is not signed" in _says(job))
        await client.sign_algorithm("digits", operator)
        ended = await _until(client, "second", lambda job: job["status"]["phase"] in ("Succeeded", "Failed"))
        assert ended["status"]["phase"] == "Succeeded", _says(ended)
        assert json.loads((state / "outputs" / "second" / "second-train" / "seen.json").read_text())["note"] == "signed"

        answer = await _served(client, cluster, code)
        assert answer["by"] == "edge", answer
