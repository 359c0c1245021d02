"""Data sets with versions over real processes: pushed, fetched, grown, trained on, and taken away while in use."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.topics import STATUS
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

CODE = Path(__file__).parent.parent / "data" / "code"


async def _dataset(client: AsyncClient, name: str, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Return a data set's status once it satisfies ``holds``."""
    async with asyncio.timeout(HANGS), client.bus.subscribe(STATUS.at(resource="datasets", name=name)) as changes:
        while True:
            try:
                status: dict[str, Any] = (await client.datasets.get(name))["status"]
                if holds(status):
                    return status
            except Refused:
                pass
            await anext(changes)


async def test_versions_of_pushed_samples_reach_edges_and_wait_for_a_training(
    tmp_path: Path, regression: Any, task: Any
) -> None:
    async with (
        LocalCluster(tmp_path / "cluster", ["edge-1"], code=(CODE,)) as cluster,
        AsyncClient(cluster.server) as client,
    ):
        await client.push("data", regression("data", 50, 1), edge="edge-1")
        first = await _dataset(client, "data", lambda status: status.get("versions"))
        (version,) = first["versions"]
        assert (version["samples"], version["edges"], first["waiting"]) == (50, ["edge-1"], {"edge-1": 50})
        await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        await client.jobs.create(task("train", ["edge-1"], rounds=1))
        async for job in client.jobs.watch("train"):  # noqa: B007 the last one counts
            pass
        assert job["status"]["phase"] == "Succeeded"
        assert job["status"]["datasetVersions"] == {"edge-1": version["version"]}
        trained = await _dataset(client, "data", lambda status: not status.get("waiting"))
        assert trained["trained"]["edge-1"]["version"] == version["version"]

        images = tmp_path / "more"
        images.mkdir()
        for number in range(2):  # a directory, and no longer the same samples
            np.savez(images / f"{number}.npz", x=np.ones((30, 3), np.float32), y=np.ones(30, np.float32))
        await client.push("data", images)
        second = await _dataset(client, "data", lambda status: len(status.get("versions", [])) > 1)
        assert second["versions"][1]["parent"] == version["version"]
        assert (second["waiting"], second["edges"]["edge-1"]["files"]) == ({"edge-1": 60}, 2)

        answer = await client.datasets.versions("data")
        assert answer["versions"][0]["version"] == version["version"]
        assert answer["present"] == {"edge-1": second["versions"][1]["version"]}

        rows = b"x,y\n1,2\n"
        content = {"file": "small.csv", "digest": hashlib.sha256(rows).hexdigest(), "size": len(rows),
                   "inline": base64.b64encode(rows).decode()}  # fmt: skip
        document = {"kind": "Dataset", "metadata": {"name": "small"}, "spec": {"content": content}}
        await client.datasets.create(document)  # as any MQTT client may
        small = await _dataset(client, "small", lambda status: status["edges"].get("edge-1", {}).get("version"))
        assert small["edges"]["edge-1"]["samples"] == 1
        assert "inline" not in (await client.datasets.get("small"))["spec"]["content"]
        with pytest.raises(Refused, match=r"spec\.content"):
            await client.datasets.create(
                document | {"metadata": {"name": "odd"}, "spec": {"content": {**content, "inline": None}}}
            )
        with pytest.raises(Refused, match="size and digest"):
            await client.datasets.create(
                document | {"metadata": {"name": "odd"}, "spec": {"content": {**content, "size": 7}}}
            )
