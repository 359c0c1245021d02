"""A pod that a test makes in place of Kubernetes, whose container waits for what the test says."""

from __future__ import annotations

from typing import Any

from heliograph.coordinator.kubernetes.api import PODS, Api, Object

NAME = "p"
_OF_THE_JOB = ("controller-uid", "job-name")
"""Labels, with and without a prefix, by which the controller of Jobs would take the pod for one of its own."""


async def pod_like(api: Api, job: Object) -> None:
    """Create a pod as the Job's are."""
    template, namespace = job["spec"]["template"], job["metadata"]["namespace"]
    labels = {name: value for name, value in template["metadata"]["labels"].items() if not name.endswith(_OF_THE_JOB)}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME, "labels": labels}, "spec": template["spec"]}
    await api.create(PODS, namespace, pod)


async def container_is(api: Api, namespace: str, **state: dict[str, Any]) -> None:
    """Let the pod's status say that its container waits or runs: ``waiting={"reason": …}``."""
    status = {"image": "example.com/server:1", "imageID": "", "name": "worker", "ready": False, "restartCount": 0}
    await api.patch_status(PODS, namespace, NAME, {"status": {"containerStatuses": [{**status, "state": state}]}})
