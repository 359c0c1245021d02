"""An update that fails a check is refused with its reason and its edge's name; the round goes on without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import topics
from heliograph.bus.contract.weights_file import TensorFile

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = {"w": np.full((2, 3), 7, np.float32), "b": np.ones(3, np.float32)}


def _with(**changes: Any) -> dict[str, Any]:
    return {**GOOD, **changes}


def _nan() -> dict[str, Any]:
    weights = np.full((2, 3), 7, np.float32)
    weights[1, 2] = np.nan
    return _with(w=weights)


WEIGHTS: dict[str, tuple[dict[str, Any], str]] = {
    "nan": (_nan(), "weights.w: expected finite values, got nan at element 5"),
    "infinite": (_with(b=np.array([1, np.inf, 1], np.float32)), "weights.b: expected finite values, got inf"),
    "shape": (_with(w=np.ones((3, 2), np.float32)), "weights.w: expected shape (2, 3), got (3, 2)"),
    "one": (_with(w=np.ones((1,), np.float32)), "weights.w: expected shape (2, 3), got (1,)"),
    "dtype": (_with(b=np.ones(3, np.float64)), "weights.b: expected F32, got F64"),
    "missing": ({"w": GOOD["w"]}, "expected key 'b', got none of that name"),
    "extra": (_with(evil=np.ones(1, np.float32)), "expected no key beyond the base model's, got evil"),
}
CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "zero": ({"num_samples": 0}, "field num_samples: expected a whole number from 1 to 100"),
    "negative": ({"num_samples": -5}, "field num_samples"),
    "absurd": ({"num_samples": 1e18}, "field num_samples"),
    "more-than-data": ({"num_samples": 101}, "the data set's size, got 101"),
    "fraction": ({"num_samples": 2.5}, "field num_samples"),
    "base": ({"base": "0" * 64}, "field base: expected model"),
    "round": ({"round": 9}, "field round: expected 1, got 9"),
    "job": ({"job_uid": "another"}, "field job_uid"),
    "edge": ({"edge": "edge-3"}, "field edge: expected edge-2, whose topic it came on, got edge-3"),
}


async def _check(cloud: Any, name: str, send: Callable[..., Any], reason: str, tmp_path: Path) -> dict[str, Any]:
    """Run a job of one round in which edge-1 sends a valid update and edge-2 a bad one."""
    job = f"bad-{name}"
    await cloud.job(job, roundDeadlineSeconds=5)
    one, two = cloud.edges["edge-1"], cloud.edges["edge-2"]
    first, second = await one.task(job, 1), await two.task(job, 1)
    await send(two, second)
    await one.send(one.update(first, GOOD))
    status = await cloud.ended(job)
    assert status["phase"] == "Succeeded"
    assert [each["edge"] for each in status["refused"]] == ["edge-2"]
    assert reason in status["refused"][0]["reason"]
    assert status["rounds"][0]["edges"] == ["edge-1"]
    path = await cloud.client.download(f"model-{job}", tmp_path / "model.safetensors")
    with TensorFile(path) as model:  # equals the good update, bit for bit
        for key, array in GOOD.items():
            np.testing.assert_array_equal(model.numpy(key), array)
    return status


@pytest.mark.parametrize("name", WEIGHTS)
async def test_bad_weights_are_refused(cloud: Any, name: str, tmp_path: Path) -> None:
    arrays, reason = WEIGHTS[name]
    await _check(cloud, name, lambda edge, task: edge.send(edge.update(task, arrays)), reason, tmp_path)


@pytest.mark.parametrize("name", CLAIMS)
async def test_bad_claims_are_refused(cloud: Any, name: str, tmp_path: Path) -> None:
    changes, reason = CLAIMS[name]
    await _check(
        cloud, f"claim-{name}", lambda edge, task: edge.send(edge.update(task, GOOD, **changes)), reason, tmp_path
    )


async def test_an_event_that_is_no_update_is_refused(cloud: Any, tmp_path: Path) -> None:
    async def send(edge: Any, task: Any) -> None:
        await edge.port.bus.publish(topics.MODEL_UPDATE.at(job=task.job, edge=edge.name), b"\x00" * 1000)

    await _check(cloud, "zeros", send, "expected JSON or MessagePack", tmp_path)


async def test_weights_that_are_no_safetensors_are_refused(cloud: Any, tmp_path: Path) -> None:
    import hashlib

    from heliograph.bus.contract.resources import WeightsRef

    rubbish = b"\xff" * 64
    ref = WeightsRef(digest=hashlib.sha256(rubbish).hexdigest(), size=64, inline=rubbish)
    await _check(
        cloud, "rubbish", lambda edge, task: edge.send(edge.update(task, weights=ref)), "safetensors", tmp_path
    )


async def test_weights_larger_than_the_base_model_are_refused_before_they_are_fetched(
    cloud: Any, tmp_path: Path
) -> None:
    from heliograph.bus.contract.permissions import upload_bucket
    from heliograph.bus.contract.resources import WeightsRef

    ref = WeightsRef(digest="e" * 64, size=1 << 40, bucket=upload_bucket("edge-2"))  # nobody has uploaded it
    await _check(
        cloud, "huge", lambda edge, task: edge.send(edge.update(task, weights=ref)), "field weights.size", tmp_path
    )


async def test_weights_of_another_digest_are_refused(cloud: Any, tmp_path: Path) -> None:
    async def send(edge: Any, task: Any) -> None:
        update = edge.update(task, GOOD)
        update.weights = update.weights.model_copy(update={"digest": "f" * 64})
        await edge.send(update)

    await _check(cloud, "digest", send, "field weights.digest", tmp_path)


async def test_an_update_sent_twice_counts_once(cloud: Any, tmp_path: Path) -> None:
    await cloud.job("twice")
    one, two = cloud.edges["edge-1"], cloud.edges["edge-2"]
    first, second = await one.task("twice", 1), await two.task("twice", 1)
    update = one.update(first, GOOD, num_samples=30)
    await one.send(update)
    await one.send(update)
    await one.send(one.update(first, _with(b=np.full(3, 99, np.float32)), num_samples=30))
    await two.send(two.update(second, {key: array * 3 for key, array in GOOD.items()}, num_samples=10))
    status = await cloud.ended("twice")
    assert status["duplicateCount"] == 1
    assert "a second update with other weights" in status["refused"][0]["reason"]
    path = await cloud.client.download("model-twice", tmp_path / "model.safetensors")
    with TensorFile(path) as model:
        np.testing.assert_allclose(model.numpy("b"), np.full(3, 1.5), rtol=1e-6)  # (30·1 + 10·3) / 40


async def test_an_update_of_an_edge_that_does_not_take_part_is_refused(cloud: Any) -> None:
    await cloud.job("uninvited")
    one, two, three = (cloud.edges[name] for name in ("edge-1", "edge-2", "edge-3"))
    first, second = await one.task("uninvited", 1), await two.task("uninvited", 1)
    await three.send(three.update(first, GOOD))
    await one.send(one.update(first, GOOD))
    await two.send(two.update(second, GOOD))
    status = await cloud.ended("uninvited")
    assert status["rounds"][0]["edges"] == ["edge-1", "edge-2"]
    assert status["refused"] == [{"edge": "edge-3", "round": 1, "reason": "edge edge-3 was not asked in round 1"}]


async def test_a_late_update_is_recorded_as_late(cloud: Any) -> None:
    await cloud.job("late", rounds=2, quorum=1)
    one, two = cloud.edges["edge-1"], cloud.edges["edge-2"]
    first, second = await one.task("late", 1), await two.task("late", 1)
    await one.send(one.update(first, GOOD))
    again = await one.task("late", 2)
    await two.send(two.update(second, GOOD))
    await one.send(one.update(again, GOOD))
    status = await cloud.ended("late")
    (late,) = status["late"]
    assert late.pop("secondsLate") >= 0
    assert late == {"edge": "edge-2", "round": 1, "reason": "round 1 was closed already; round 2 is open"}
    assert not any(each["type"] == "InTime" for each in status["conditions"])  # the quorum wants it so
    assert [each["reason"] for each in status["rounds"]] == ["quorum", "quorum"]


async def test_the_deadline_closes_a_round(cloud: Any) -> None:
    await cloud.job("deadline", roundDeadlineSeconds=0.5)
    one = cloud.edges["edge-1"]
    await one.send(one.update(await one.task("deadline", 1), GOOD))
    status = await cloud.ended("deadline")
    assert status["rounds"][0]["reason"] == "deadline"
    assert status["rounds"][0]["edges"] == ["edge-1"]


async def test_an_update_whose_weights_never_come_does_not_stop_the_round(cloud: Any) -> None:
    from heliograph.bus.contract.permissions import upload_bucket
    from heliograph.bus.contract.resources import WeightsRef

    await cloud.job("never", rounds=2, roundDeadlineSeconds=0.5)
    one, two = cloud.edges["edge-1"], cloud.edges["edge-2"]
    nowhere = WeightsRef(digest="e" * 64, size=1000, bucket=upload_bucket("edge-2"))
    await two.send(two.update(await two.task("never", 1), weights=nowhere))
    await one.send(one.update(await one.task("never", 1), GOOD))
    first, second = await one.task("never", 2), await two.task("never", 2)
    await one.send(one.update(first, GOOD))
    await two.send(two.update(second, GOOD))
    status = await cloud.ended("never")
    assert [each["edges"] for each in status["rounds"]] == [["edge-1"], ["edge-1", "edge-2"]]
    assert status["late"][0]["edge"] == "edge-2"
    assert "weights had not come" in status["late"][0]["reason"]


async def test_a_job_fails_where_no_update_is_ever_valid(cloud: Any) -> None:
    await cloud.job("hopeless", rounds=9)
    one, two = cloud.edges["edge-1"], cloud.edges["edge-2"]
    for round in (1, 2, 3):
        for edge in (one, two):
            task = await edge.task("hopeless", round)
            await edge.send(edge.update(task, _nan()))
    status = await cloud.ended("hopeless")
    assert status["phase"] == "Failed"
    complete = next(each for each in status["conditions"] if each["type"] == "Complete")
    assert "without a valid update" in complete["message"]
    assert "finite" in complete["message"]
