"""The Kubernetes Job of a worker that runs as a pod of its edge's node. Pure.

The Job names its cloud, and lies in one namespace for all workers, also those of other clouds. Its pod stays where it
is while the node is offline; the node's kubelet starts the container again there, and no second pod is made before the
first has ended (docs/pods.md).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from heliograph.bus.contract.payloads import PodSpec, ScriptTask
from heliograph.bus.contract.resources.worker_image import PodVolume
from heliograph.coordinator.kubernetes.documents import CLOUD
from heliograph.core.pod_channel import DIRECTORY_VARIABLE, IDENTITY_VARIABLE

HOSTNAME = "kubernetes.io/hostname"
"""The label of a node by which a Job names it, and of an edge whose agent says which node it runs on."""
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "heliograph-workers"
EDGE, WORKER, JOB, JOB_UID = "edgeai.io/edge", "edgeai.io/worker", "edgeai.io/job", "edgeai.io/job-uid"
"""Labels of Jobs and their pods, beside ``CLOUD``."""
MOST_RETRIES = 2**31 - 1
"""The largest ``backoffLimit``: each start of a container counts, and a worker may run for years."""
_GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class PodSettings:
    """Where nodes keep what pods share with their agent, and what pods may be. The same for all nodes.

    Attributes:
        namespace: of the Jobs.
        pods: directory that an agent was started with as ``--pods``.
        state: the agent's ``--state``; pods see its models, data sets and packages, and nothing else of it.
        code, data: directories of nodes with scripts and with data; ``""`` for none.
        user: uid and gid of agents and pods: they share private files.
        images: images that may run, by their whole name, or by its beginning up to ``/``, ``:`` or ``@``; ``*`` for
            all. Without any none may: an image is code.
        host_paths: directories of nodes that a worker's own volumes may lie below.
        service_account, runtime_class, pull_secret: names for the pods; empty for the namespace's defaults.
    """

    namespace: str = "heliograph-workers"
    pods: str = "/var/lib/heliograph/pods"
    state: str = "/var/lib/heliograph/state"
    code: str = "/var/lib/heliograph/code"
    data: str = "/var/lib/heliograph/data"
    user: int = 10_001
    images: tuple[str, ...] = ()
    host_paths: tuple[str, ...] = ()
    service_account: str = ""
    runtime_class: str = ""
    pull_secret: str = ""


def selector_of(cloud: str) -> str:
    """Return the label selector of the Jobs of a cloud's workers, and of their pods."""
    return f"{MANAGED_BY}={MANAGER},{CLOUD}={cloud}"


def job_name(cloud: str, edge: str, task: ScriptTask) -> str:
    """Return the name of a worker's Job, a DNS label: another one for each cloud, edge, worker, job and setting of its
    pod."""
    identity = task.pod.identity if task.pod is not None else ""
    mark = hashlib.sha256(f"{cloud}/{edge}/{task.worker}/{identity}".encode()).hexdigest()[:10]
    return f"{f'{edge}-{task.worker}'[:52].rstrip('-')}-{mark}"


def objection(pod: PodSpec, settings: PodSettings) -> str:
    """Return why no Job is made for a pod; empty where one may be."""
    if not any(_covers(each, pod.image) for each in settings.images):
        allowed = ", ".join(settings.images) or "none"
        return (f"image {pod.image} may not run here: expected one that the operator allows ({allowed}); "
                "name it in the operator's images")  # fmt: skip
    for volume in pod.volumes:
        path = volume.host_path
        if path is not None and not any(PurePosixPath(path).is_relative_to(each) for each in settings.host_paths):
            allowed = ", ".join(settings.host_paths) or "none"
            return (f"volume {volume.mount_path} may not show the node's {path}: expected a directory below one that "
                    f"the operator allows ({allowed}); name it in the operator's hostPaths")  # fmt: skip
    return ""


def worker_job(
    task: ScriptTask, edge: str, node: str, settings: PodSettings, cloud: str, owner: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the manifest of a worker's Job.

    Args:
        cloud: id of the cloud whose worker it is.
        node: value of the node's label ``kubernetes.io/hostname``.
        owner: a reference to the custom resource that the worker belongs to, for ``ownerReferences``.

    Raises:
        ValueError: the task has no pod.
    """
    if task.pod is None:
        raise ValueError(f"the task of {task.worker} has no pod")
    labels = {MANAGED_BY: MANAGER, CLOUD: cloud, EDGE: edge, WORKER: task.worker, JOB: task.job, JOB_UID: task.job_uid}
    metadata: dict[str, Any] = {"name": job_name(cloud, edge, task), "namespace": settings.namespace, "labels": labels}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": MOST_RETRIES,
            "podReplacementPolicy": "Failed",  # never two at once, also while the node cannot say that one has ended
            "template": {"metadata": {"labels": labels}, "spec": _pod(task, task.pod, node, settings)},
        },
    }


def _pod(task: ScriptTask, pod: PodSpec, node: str, settings: PodSettings) -> dict[str, Any]:
    volumes = _Volumes()
    directory = str(PurePosixPath(settings.pods) / task.worker)
    volumes.host(directory, directory, writable=True)
    shared = [f"{settings.state}/{name}" for name in ("models", "datasets", "packages")]
    for path in filter(None, (*shared, settings.code, settings.data)):
        volumes.host(path, path)
    volumes.add("/tmp", {"emptyDir": {}}, writable=True)
    for each in pod.volumes:
        volumes.of(each)
    found: dict[str, Any] = {
        "restartPolicy": "OnFailure",
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [node]}]}]}}},
        "tolerations": [
            # without seconds: a pod of a node that is offline is never given up
            *({"key": f"node.kubernetes.io/{fault}", "operator": "Exists", "effect": "NoExecute"}
              for fault in ("unreachable", "not-ready")),
            {"key": "node-role.kubernetes.io/edge", "operator": "Exists", "effect": "NoSchedule"},
        ],
        "automountServiceAccountToken": False,  # with one, pods did not come back after an offline reboot
        "enableServiceLinks": False,
        "hostNetwork": True,  # the node's broker listens on loopback
        "dnsPolicy": "Default",  # an edge has no cluster DNS
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": settings.user, "runAsGroup": settings.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(task, pod, directory, volumes)],
        "volumes": volumes.sources,
    }  # fmt: skip
    named = {"serviceAccountName": settings.service_account, "runtimeClassName": settings.runtime_class}
    found |= {key: value for key, value in named.items() if value}
    if settings.pull_secret:
        found["imagePullSecrets"] = [{"name": settings.pull_secret}]
    return found


def _container(task: ScriptTask, pod: PodSpec, directory: str, volumes: _Volumes) -> dict[str, Any]:
    variables = {"HOME": "/tmp", **{each.name: each.value for each in pod.env}}  # its root cannot be written
    variables |= {DIRECTORY_VARIABLE: directory, IDENTITY_VARIABLE: pod.identity}
    script = [task.script.boot_file] if pod.has_script and task.script is not None else []
    return {
        "name": "worker",
        "image": pod.image,
        "command": [pod.python, "-P", "-m", "heliograph.workers.pod"],
        **({"args": script} if script else {}),
        "env": [{"name": name, "value": value.replace("$(", "$$(")} for name, value in variables.items()],
        "resources": _resources(task, pod),
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": volumes.mounts,
    }  # fmt: skip


def _resources(task: ScriptTask, pod: PodSpec) -> dict[str, Any]:
    """Return what the container asks for. It is a reservation, as for processes; but a GPU's is a limit, which
    Kubernetes wants of every device."""
    requests = {"cpu": pod.cpu} if pod.cpu else {}
    if task.asks is not None and task.asks.memory:
        requests["memory"] = str(task.asks.memory)
    limits = {_GPU: str(task.asks.gpus)} if task.asks is not None and task.asks.gpus else {}
    return {key: value for key, value in (("requests", requests), ("limits", limits)) if value}


class _Volumes:
    """The volumes of one pod, each with its mount."""

    def __init__(self) -> None:
        self.sources: list[dict[str, Any]] = []
        self.mounts: list[dict[str, Any]] = []

    def host(self, path: str, mount: str, *, writable: bool = False) -> None:
        """Show a directory of the node. The pod waits until it is there: Kubernetes would make it as root's."""
        self.add(mount, {"hostPath": {"path": path, "type": "Directory"}}, writable=writable)

    def of(self, volume: PodVolume) -> None:
        if volume.host_path is not None:
            self.host(volume.host_path, volume.mount_path, writable=volume.writable)
        elif volume.config_map is not None:
            self.add(volume.mount_path, {"configMap": {"name": volume.config_map}})
        else:
            limit = {"sizeLimit": volume.empty_dir} if volume.empty_dir else {}
            self.add(volume.mount_path, {"emptyDir": limit}, writable=True)

    def add(self, mount: str, source: dict[str, Any], *, writable: bool = False) -> None:
        if any(each["mountPath"] == mount for each in self.mounts):
            return  # ours come first: a worker's own volume hides none of them
        name = f"volume-{len(self.sources)}"
        self.sources.append({"name": name, **source})
        self.mounts.append({"name": name, "mountPath": mount, "readOnly": not writable})


def _covers(allowed: str, image: str) -> bool:
    return allowed in ("*", image) or (allowed.endswith(("/", ":", "@")) and image.startswith(allowed))
