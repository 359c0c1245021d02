"""Documents that try to run code: none does, on real processes and brokers."""

from __future__ import annotations

import asyncio
import base64
import io
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS


def _zip(marker: Path) -> bytes:
    """A zip file whose module ``planted`` leaves a marker where it is imported."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("planted.py", f"open({str(marker)!r}, 'w')")
    return file.getvalue()


@pytest.mark.long
async def test_weights_that_are_a_zip_file_run_nowhere(tmp_path: Path) -> None:
    marker, code = tmp_path / "ran", tmp_path / "code"
    code.mkdir()
    (code / "script.py").write_text("import planted\n")
    content = _zip(marker)
    digest = sha256(content).hexdigest()
    weights = {"digest": digest, "size": len(content), "inline": base64.b64encode(content).decode()}
    async with LocalCluster(tmp_path / "cluster", ["edge-1"], code=(code,)) as cluster:
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            with pytest.raises(Refused, match=r"spec\.weights: expected inline: expected a safetensors header"):
                await client.models.create({"kind": "Model", "metadata": {"name": "m"}, "spec": {"weights": weights}})
            await client.models.create({"kind": "Model", "metadata": {"name": "m"}})
            planted = cluster.nodes["edge-1"].directory / "state" / "models" / digest
            planted.write_bytes(content)  # a file that an agent of an earlier release has laid there
            for name, directory, words in (
                ("climbs", f"../cluster/edge-1/state/models/{digest}", "does not lie under the --code root of script"),
                ("absolute", str(planted), "does not lie under the --code root of script"),
                ("none", None, "No module named 'planted'"),
            ):
                status = await _run(client, name, directory)
                assert status["phase"] == "Failed"
                complete = next(each for each in status["conditions"] if each["type"] == "Complete")
                assert words in complete["message"]
    assert not marker.exists()


async def _run(client: AsyncClient, name: str, directory: str | None) -> dict[str, Any]:
    """Run a job of one script; return its last status."""
    settings = {"trainScriptBootFile": "script.py"} | ({"trainScriptDir": directory} if directory else {})
    spec = {
        "aggregationWorker": {"model": {"name": "m"}},
        "trainingWorkers": [{"name": "w", "nodeName": "edge-1", "workerSpec": settings}],
    }
    await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": name}, "spec": spec})
    document: dict[str, Any] = {}
    async with asyncio.timeout(HANGS):
        async for document in client.jobs.watch(name):  # noqa: B007 the last one counts
            pass
    return document["status"]
