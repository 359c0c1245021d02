"""A rollback by hand during the canary of a job takes its candidate back: the champion stays, and the loop goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.coordinator.features.incremental.played_node import (
    judge,
    label,
    make_job,
    on_trial,
    task_of,
    train,
    until,
    until_ended,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
CANARY = {"canary": {"share": 0.3, "leastRequests": 50, "deadlineSeconds": 3600.0}}


async def _begun(cloud: Any, name: str, *numbers: int) -> dict[str, Any]:
    """Return the service whose edge tries the first candidate of a new job."""
    await make_job(cloud, name, deployment=CANARY)
    service: dict[str, Any] = await cloud.client.services.create({
        "kind": "JointInferenceService", "metadata": {"name": name},
        "spec": {"edgeWorker": {"model": {"name": name}, "scriptBootFile": "edge.py"}, "edges": ["edge-2"]},
    })  # fmt: skip
    await label(cloud, name, *numbers)
    await train(cloud, await task_of(cloud, name, "train"))
    await judge(cloud, await task_of(cloud, name, "evaluate"))
    await on_trial(cloud, name)
    await until(cloud, name, step="canary")
    return service


async def test_a_rollback_by_hand_ends_the_canary_and_the_loop_goes_on(cloud: Any) -> None:
    await _begun(cloud, "by-hand", *range(900, 910))
    await cloud.client.models.alias("by-hand", "champion", 1)  # so that there is something further back
    await cloud.client.models.alias("by-hand", "champion", 0)
    dry = await cloud.client.models.rollback("by-hand", dry_run=True)
    assert "rollout" not in dry["status"], "the answer shows what would be"
    answer = await cloud.client.models.rollback("by-hand")
    assert answer["status"]["aliases"] == {"champion": 0} and "rollout" not in answer["status"]
    status = await until_ended(cloud, "by-hand")
    ended = status["rounds"][0]["models"]["by-hand"]
    assert (ended["decision"], ended["reason"]) == ("rolled-back", "by hand")
    document = await cloud.client.models.get("by-hand")
    assert document["status"]["aliases"] == {"champion": 0}, "what served still serves"
    (told,) = [each for each in document["status"]["conditions"] if each["type"] == "RolledOut"]
    assert (told["reason"], told["message"]) == ("RolledBack", "version 1: taken back on request")
    await label(cloud, "by-hand", *range(910, 920))
    await train(cloud, await task_of(cloud, "by-hand", "train", 2), 2.0)
    await judge(cloud, await task_of(cloud, "by-hand", "evaluate", 2))
    await until(cloud, "by-hand", step="canary", round=2)
    document = await cloud.client.models.get("by-hand")
    assert document["status"]["rollout"]["version"] == 2, "the next candidate is tried"
    await cloud.client.services.delete("by-hand")


async def test_a_rollback_to_a_named_version_ends_the_canary_too(cloud: Any) -> None:
    await _begun(cloud, "by-name", *range(920, 930))
    await cloud.client.models.rollback("by-name", to=0)
    ended = (await until_ended(cloud, "by-name"))["rounds"][0]["models"]["by-name"]
    assert (ended["decision"], ended["reason"]) == ("rolled-back", "by hand")
    assert (await cloud.client.models.get("by-name"))["status"]["aliases"] == {"champion": 0}
    await cloud.client.services.delete("by-name")
