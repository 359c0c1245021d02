"""Why a worker's pod does not run, as its job's condition says it."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.coordinator.kubernetes.pod_problems import pull_problem
from heliograph.coordinator.kubernetes.worker_job import worker_job
from heliograph.coordinator.kubernetes.worker_jobs import problems_of
from tests.coordinator.kubernetes.worker_tasks import ALLOWING, CLOUD_ID, IMAGE, train_task

_LABELS = worker_job(train_task(), "edge-1", "node-1", ALLOWING, CLOUD_ID)["metadata"]["labels"]


def _waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    container = {"image": IMAGE, "state": {"waiting": {"reason": reason, "message": message}}, **more}
    return {"metadata": {"name": "pod-1", "labels": _LABELS},
            "status": {"containerStatuses": [container]}}  # fmt: skip


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (_waiting("ImagePullBackOff", "Back-off\n pulling image"),
         f"pod pod-1: image {IMAGE}: ImagePullBackOff: Back-off pulling image"),
        (_waiting("ErrImagePull"), f"pod pod-1: image {IMAGE}: ErrImagePull"),
        (_waiting("CreateContainerError", "no such file"),
         f"pod pod-1: image {IMAGE}: CreateContainerError: no such file"),
        (_waiting("CrashLoopBackOff", lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}}),
         f"pod pod-1: image {IMAGE}: CrashLoopBackOff; it ended with OOMKilled, exit code 137"),
        ({"metadata": {"name": "pod-1"}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes match"}]}},
         "pod pod-1: Unschedulable: 0/3 nodes match"),
        (_waiting("ContainerCreating"), ""),
        ({"status": {"containerStatuses": [{"state": {"running": {}}}]}}, ""),
        ({}, ""),
        ({"status": "?"}, ""),
        ({"status": {"containerStatuses": [None, {"state": None}], "conditions": "?"}}, ""),
    ],
)  # fmt: skip
def test_why_a_pod_does_not_run_is_said_in_a_sentence(pod: dict[str, Any], expected: str) -> None:
    assert pull_problem(pod) == expected


def test_a_job_is_told_of_its_pods_and_a_long_message_is_cut() -> None:
    problems = problems_of([_waiting("ErrImagePull", "x" * 5000), {"metadata": {"name": "other"}}])
    assert list(problems) == ["u"]
    assert problems["u"][0].startswith("edge edge-1: pod pod-1: image")
    assert len(problems["u"][0]) < 600
