"""Services whose workers are files, through real processes: ONNX models answer on the edge and in the cloud; another
version takes the place of one, answers a share of the requests first, or is taken back; none that crashes answers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import aiomqtt
import pytest

from heliograph.bus.contract.topics import STATUS
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from tests.onnx_writer import crashing, model, slow
from tests.patience import HANGS

CATS, SWAPPED = [[9.0, 0.0], [0.0, 9.0], [0.0, 0.0]], [[0.0, 9.0], [9.0, 0.0], [0.0, 0.0]]
OVERFLOWING = [[3e38, 0.0], [3e38, 3e38], [3e38, 3e38]]
"""Answers a cat as CATS does; of two larger numbers it gives no finite scores."""
SURE, UNSURE = [1.0, 0.0, 0.0], [0.0, 0.05, 0.0]
BOUNDS = {"share": 0.5, "leastRequests": 10, "watchSeconds": 0, "mostLatency": 1000.0}


@pytest.fixture(autouse=True)
def _runtime(framework: Callable[[str], ModuleType]) -> None:
    framework("onnxruntime")


@dataclass
class Served:
    """A cluster with the service ``cats``, a device on its edge, and a client."""

    cluster: LocalCluster
    directory: Path
    client: AsyncClient
    device: aiomqtt.Client

    async def upload(self, content: bytes, name: str = "small", **options: Any) -> dict[str, Any]:
        file = self.directory / f"{name}.onnx"
        file.write_bytes(content)
        made: dict[str, Any] = await self.client.upload(name, file, **options)
        return made

    async def create(self, *, deep: bool = False) -> None:
        spec: dict[str, Any] = {"edgeWorker": {"model": {"name": "small"}, "format": "onnx"}, "deadlineSeconds": 20.0}
        rule = {"name": "threshold", "parameters": [{"key": "value", "value": 0.7}]} if deep else {"name": "never"}
        spec["hardSampleRule"] = rule
        if deep:
            spec["cloudWorker"] = {"model": {"name": "deep"}, "format": "onnx"}
        service = {"kind": "JointInferenceService", "metadata": {"name": "cats"}, "spec": spec}
        await self.client.resources("services").create(service)

    async def ask(self, x: list[float]) -> dict[str, Any]:
        body = json.dumps({"input": x, "reply_to": "heliograph/reply/device/1"})
        await self.device.publish("heliograph/inference/cats/request", body)
        async with asyncio.timeout(HANGS):
            found: dict[str, Any] = json.loads((await anext(aiter(self.device.messages))).payload)
        return found

    async def status(self, kind: str, name: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the status of a resource is as ``holds`` wants it, and return it."""
        async with asyncio.timeout(HANGS), self.client.bus.subscribe(STATUS.filter(resource=kind)) as changes:
            while not holds(found := (await self.client.resources(kind).get(name))["status"]):
                await anext(changes)
        return found

    async def typed(self, *words: str) -> str:
        """Run a command, and return what it prints."""
        command = sys.executable, "-m", "heliograph.cli.main", *words, "--server", self.cluster.server
        environment = os.environ | {"COLUMNS": "300", "NO_COLOR": "1"}
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode()

    async def running(self) -> None:
        await self.status("services", "cats", lambda found: found["phase"] == "Running")

    async def answered_by(self, digest: str) -> dict[str, Any]:
        """Ask until that version answers."""
        async with asyncio.timeout(HANGS):
            while (found := await self.ask(SURE))["model"] != digest:
                pass
        return found

    async def rolled_out(self, version: dict[str, Any]) -> tuple[str, str]:
        """Ask different samples until the rollout has ended, large ones once the version has answered one; return its
        end and why. No request may fail."""
        number, dog = 0, 0.0
        async with asyncio.timeout(HANGS):
            while True:
                number += 1
                answer = await self.ask([1.0 + number / 10_000, dog, 0.0])
                assert "result" in answer, answer
                dog = 100.0 if answer["model"] == version["weights"]["digest"] else dog
                status = (await self.client.models.get("small"))["status"]
                found = next(each for each in status["conditions"] if each["type"] == "RolledOut")
                if found["status"] != "Unknown":
                    return found["reason"], found["message"]


@asynccontextmanager
async def _served(directory: Path) -> AsyncIterator[Served]:
    async with (
        LocalCluster(directory / "cluster", ["edge-1"]) as cluster,
        AsyncClient(cluster.server, timeout=HANGS) as client,
    ):
        broker = cluster.nodes["edge-1"].broker
        assert broker is not None
        async with aiomqtt.Client("127.0.0.1", broker.mqtt_port) as device:
            await device.subscribe("heliograph/reply/device/+")
            yield Served(cluster, directory, client, device)


def _both_crash(status: dict[str, Any]) -> bool:
    """Return whether the service says of both sides that their version crashes."""
    said = next((each["message"] for each in status["conditions"] if each["type"] == "WorkersHealthy"), "")
    return bool(said.count("signal 8 (floating point exception)") == 2)


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in status["conditions"] if each["type"] == kind)
    return found


@pytest.mark.long
async def test_files_answer_on_both_sides_and_the_next_version_takes_the_place_of_one(tmp_path: Path) -> None:
    async with _served(tmp_path) as served:
        first = await served.upload(model(CATS, classes="cat,dog"))
        await served.upload(model(CATS, classes="cat,dog"), "deep")
        assert (first["version"], first["weights"]["format"], first["inputs"][0]["name"]) == (1, "onnx", "x")
        back = await served.client.download("small", tmp_path / "back.onnx")
        assert back.read_bytes() == model(CATS, classes="cat,dog")
        exported = await served.client.export("small", tmp_path / "exported")
        assert (exported / "model.onnx").read_bytes() == back.read_bytes()
        await served.create(deep=True)
        await served.running()
        assert "onnx 1." in await served.typed("describe", "edges/edge-1")
        head, *rows = (await served.typed("get", "edges", "-o", "wide")).splitlines()
        place = head.index("FORMATS")
        assert all("onnx" in row[place : place + 12] for row in rows), "\n".join([head, *rows])
        sure, unsure = await served.ask(SURE), await served.ask(UNSURE)
        assert (sure["result"], sure["by"], sure["model"]) == ("cat", "edge", first["weights"]["digest"])
        assert (unsure["result"], unsure["by"]) == ("dog", "cloud")
        refused = await served.ask([1.0])
        assert refused["error"]["code"] == "invalid" and "shape (3)" in refused["error"]["expected"]
        second = await served.upload(model(SWAPPED, classes="kitten,puppy"), parent=1)
        assert (second["version"], second["parent"]) == (2, first["weights"]["digest"])
        assert (await served.answered_by(second["weights"]["digest"]))["result"] == "puppy", "its own classes"
        assert await served.typed("rollback", "models/small") == (
            "model/small champion is version 1\nIt is the champion from now on: deploy later versions by 'heliograph "
            "models alias small champion N'.\n"
        )
        assert (await served.answered_by(first["weights"]["digest"]))["result"] == "cat"


@pytest.mark.long
@pytest.mark.parametrize("when_opened", [True, False])
async def test_a_version_that_crashes_the_runtime_answers_nobody_and_the_one_before_goes_on(
    tmp_path: Path, when_opened: bool
) -> None:
    bad = crashing(3, when_opened=when_opened)
    async with _served(tmp_path) as served:
        first = await served.upload(bad)
        await served.upload(bad, "deep")
        await served.create(deep=True)
        status = await served.status("services", "cats", _both_crash)
        assert status["phase"] == "Pending"
        assert (await served.ask(SURE))["error"]["code"] == "model-failed"
        good = await served.upload(model(CATS))
        deep = await served.upload(model(CATS), "deep")
        await served.running()
        assert (await served.ask(SURE))["model"] == good["weights"]["digest"]
        assert (await served.ask(UNSURE))["by"] == "cloud"
        for name, version in (("small", first), ("deep", first)):
            await served.client.models.alias(name, "champion", version["version"])
        await served.status("services", "cats", _both_crash)
        assert (await served.ask(SURE))["model"] == good["weights"]["digest"]
        assert (await served.ask(UNSURE))["by"] == "cloud"
        await served.client.models.rollback("small")
        await served.client.models.rollback("deep", to=deep["version"])
        await served.status("services", "cats", lambda found: _condition(found, "WorkersHealthy")["status"] == "True")


@pytest.mark.long
async def test_a_version_answers_a_share_first_then_all_or_none(tmp_path: Path) -> None:
    async with _served(tmp_path) as served:
        first = (await served.upload(model(CATS)))["weights"]["digest"]
        await served.create()
        await served.running()

        async def tried(
            content: bytes, expected: str, why: str, takeover: bool = False, **bounds: Any
        ) -> dict[str, Any]:
            version = await served.upload(content, deploy=False)
            await served.ask(SURE)
            await served.client.models.rollout("small", version["version"], BOUNDS | bounds)
            if takeover:
                await served.cluster.kill(COORDINATOR)
                await served.cluster.start_coordinator()
                await served.cluster.wait_for_line(COORDINATOR, "coordinator is ready")
            reason, message = await served.rolled_out(version)
            assert reason == expected and why in message, message
            return version

        await tried(crashing(3, when_opened=True), "RolledBack", "did not stand its trial in 1 worker")
        await tried(model(OVERFLOWING), "RolledBack", "errors in")
        await tried(model(SWAPPED), "RolledBack", "agrees with the champion in 0 of", leastAgreement=0.9)
        await tried(slow(CATS, 400), "RolledBack", "more than 2 times the champion's", mostLatency=2.0)
        assert (await served.ask(SURE))["model"] == first
        better = await tried(model([[8.0, 0.0], [0.0, 9.0], [0.0, 0.0]]), "Deployed", "answers within the bounds",
                             takeover=True)  # fmt: skip
        await served.answered_by(better["weights"]["digest"])
        await served.client.models.rollback("small")
        await served.answered_by(first)
