"""Which pod a worker's spec makes, in the tasks of each kind of job."""

from __future__ import annotations

from typing import Any

from heliograph.bus.contract.payloads import TrainTask
from heliograph.bus.contract.resources import FederatedTask
from heliograph.bus.contract.resources.node_resources import WorkerResources
from heliograph.bus.contract.worker_pods import pod_of, script_in
from heliograph.coordinator.features.federated.desired_tasks import warm_tasks
from tests.coordinator.kubernetes.worker_tasks import IMAGE, federated, spec_of

SCRIPT = {"trainScriptBootFile": "train.py"}


def _tasks(task: FederatedTask) -> dict[str, TrainTask]:
    assignments = [(f"w{number}", f"edge-{number}") for number in range(len(task.spec.training_workers))]
    found: dict[str, Any] = warm_tasks(task, {}, assignments)
    return {edge: tasks[0] for edge, tasks in found.items()}


def test_a_worker_without_an_image_is_a_process() -> None:
    [task] = _tasks(federated(SCRIPT)).values()
    assert task.pod is None
    assert "pod" not in task.model_dump()  # an agent of an earlier version reads the same document


def test_a_script_of_the_node_runs_in_the_image() -> None:
    [task] = _tasks(federated({**SCRIPT, "image": IMAGE, "resources": {"cpu": "2"}})).values()
    assert task.pod is not None and task.script is not None
    assert (task.pod.image, task.pod.python, task.pod.cpu, task.pod.has_script) == (IMAGE, "python", "2", False)
    assert task.script.boot_file == "train.py"


def test_a_script_of_the_image_is_the_tasks_script() -> None:
    worker = {"image": IMAGE, "command": ["python3.12", "/app/train.py"], "args": ["--lr", "0.1"]}
    [task] = _tasks(federated(worker)).values()
    assert task.pod is not None and task.script is not None
    assert (task.pod.python, task.pod.has_script) == ("python3.12", True)
    assert (task.script.boot_file, task.script.arguments) == ("/app/train.py", ["--lr", "0.1"])


def test_a_worker_takes_code_and_pod_of_the_first_that_names_code_and_keeps_an_image_of_its_own() -> None:
    arm = f"{IMAGE}-arm64"
    tasks = _tasks(federated({**SCRIPT, "image": IMAGE}, {}, {"image": arm}, {"trainScriptBootFile": "other.py"}))
    images = {edge: task.pod.image if task.pod is not None else "" for edge, task in tasks.items()}
    assert images == {"edge-0": IMAGE, "edge-1": IMAGE, "edge-2": arm, "edge-3": ""}
    scripts = {edge: task.script.boot_file if task.script is not None else "" for edge, task in tasks.items()}
    assert scripts == {"edge-0": "train.py", "edge-1": "train.py", "edge-2": "train.py", "edge-3": "other.py"}


def test_another_job_and_each_other_setting_needs_another_pod() -> None:
    spec, asks = spec_of(**SCRIPT), WorkerResources(memory="1Gi")
    pods = [
        pod_of(spec, asks, "u"), pod_of(spec, asks, "v"), pod_of(spec, None, "u"),
        pod_of(spec_of(image=f"{IMAGE}.1"), asks, "u"), pod_of(spec_of(args=["/app/a.py"]), asks, "u"),
        pod_of(spec_of(env=[{"name": "A", "value": "b"}]), asks, "u"),
        pod_of(spec_of(volumes=[{"mountPath": "/a", "emptyDir": ""}]), asks, "u"),
    ]  # fmt: skip
    identities = [each.identity for each in pods if each is not None]
    assert len(set(identities)) == len(pods)
    again = pod_of(spec_of(**SCRIPT), asks, "u")
    assert again is not None and again.identity == identities[0]
    assert script_in(spec) is None
