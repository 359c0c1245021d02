"""The Jobs of workers that are pods: their manifests, and which are created and deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import kubernetes_validate
import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.payloads import Desired, EdgeLoop, Generation
from heliograph.bus.contract.resources import Edge, IncrementalLearningJobSpec
from heliograph.bus.contract.worker_pods import pod_of
from heliograph.coordinator.kubernetes.edge_node import node_of
from heliograph.coordinator.kubernetes.pods_wanted import pods_wanted
from heliograph.coordinator.kubernetes.worker_job import HOSTNAME, PodSettings, job_name, worker_job
from heliograph.coordinator.kubernetes.worker_jobs import Wanted, WorkerJobs, changes_of
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Refused
from heliograph.core.names import is_label
from heliograph.core.pod_channel import IDENTITY_VARIABLE
from heliograph.core.world import World
from tests.coordinator.kubernetes.worker_tasks import ALLOWING, CLOUD_ID, IMAGE, NODES, train_task

VERSIONS = ("1.29", "1.33")
"""The first Kubernetes in which a Job's podReplacementPolicy holds without a feature gate, and a recent one."""


def _manifest(**fields: Any) -> dict[str, Any]:
    return worker_job(train_task(**fields), "edge-1", "node-1.site.example", ALLOWING, CLOUD_ID)


def _pod(manifest: Mapping[str, Any]) -> Any:
    return manifest["spec"]["template"]["spec"]


def _job(name: str, **status: Any) -> dict[str, Any]:
    manifest = _manifest()
    return {**manifest, "metadata": {**manifest["metadata"], "name": name}, "status": status}


def _wanted(*tasks: Any, **more: Any) -> Wanted:
    return Wanted({"edge-1": tasks}, NODES, **more)


FULL = {
    "command": ["/opt/venv/bin/python3"],
    "args": ["/app/train.py", "--lr", "0.1"],
    "env": [{"name": "MODE", "value": "$(HOME) as it stands"}],
    "resources": {"memory": "2Gi", "gpus": 1, "cpu": "500m"},
    "volumes": [
        {"mountPath": "/cache", "hostPath": "/data/cache", "writable": True},
        {"mountPath": "/settings", "configMap": "settings"},
        {"mountPath": "/scratch", "emptyDir": "1Gi"},
    ],
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("fields", [{}, FULL])
def test_a_manifest_is_one_that_kubernetes_takes(version: str, fields: dict[str, Any]) -> None:
    kubernetes_validate.validate(_manifest(**fields), version, strict=True)


def test_a_manifest_with_an_unknown_field_is_found() -> None:
    manifest = _manifest()
    manifest["spec"]["podReplacmentPolicy"] = "Failed"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[1], strict=True)


def test_a_pod_stays_on_its_node_while_that_is_offline_and_has_no_token() -> None:
    manifest = _manifest()
    pod = _pod(manifest)
    assert manifest["spec"]["podReplacementPolicy"] == "Failed"
    assert pod["restartPolicy"] == "OnFailure"
    assert "podFailurePolicy" not in manifest["spec"]  # Kubernetes refuses it beside OnFailure
    assert "nodeName" not in pod
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1.site.example"]}]}]  # fmt: skip
    never_given_up = {each["key"] for each in pod["tolerations"]
                      if each["effect"] == "NoExecute" and "tolerationSeconds" not in each}  # fmt: skip
    assert never_given_up == {"node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"}
    assert pod["automountServiceAccountToken"] is False


def test_a_pod_writes_into_its_workers_directory_alone() -> None:
    container = _pod(_manifest())["containers"][0]
    sources = {each["name"]: each for each in _pod(_manifest())["volumes"]}
    writable = [sources[each["name"]] for each in container["volumeMounts"] if not each["readOnly"]]
    assert [each.get("hostPath", {}).get("path") for each in writable] == ["/var/lib/heliograph/pods/job-worker", None]
    assert "emptyDir" in writable[1]
    hosts = [each["hostPath"] for each in sources.values() if "hostPath" in each]
    assert {each["type"] for each in hosts} == {"Directory"}  # one that Kubernetes makes is root's
    assert "/var/lib/heliograph/state" not in [each["path"] for each in hosts]  # journal and keys
    security = container["securityContext"], _pod(_manifest())["securityContext"]
    assert security[0]["readOnlyRootFilesystem"] and not security[0]["allowPrivilegeEscalation"]
    assert security[1]["runAsNonRoot"] and security[1]["runAsUser"] == ALLOWING.user


def test_a_container_gets_what_its_spec_asks_for() -> None:
    container = _pod(_manifest(**FULL))["containers"][0]
    assert container["image"] == IMAGE
    assert container["command"] == ["/opt/venv/bin/python3", "-P", "-m", "heliograph.workers.pod"]
    assert container["args"] == ["/app/train.py"]
    assert "args" not in _pod(_manifest())["containers"][0]  # the API server keeps no empty list
    assert container["resources"] == {"requests": {"cpu": "500m", "memory": str(2 << 30)},
                                      "limits": {"nvidia.com/gpu": "1"}}  # fmt: skip
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables["MODE"] == "$$(HOME) as it stands"  # Kubernetes would put in another variable's value
    mounts = {each["mountPath"]: each["readOnly"] for each in container["volumeMounts"]}
    assert (mounts["/cache"], mounts["/settings"], mounts["/scratch"]) == (False, True, False)


def test_names_are_labels_and_differ_by_edge_worker_job_and_settings() -> None:
    long = "a" * 63
    tasks = [("edge-1", train_task()), ("edge-2", train_task()), ("edge-1", train_task("other")),
             ("edge-1", train_task(worker=long)), ("edge-1", train_task(worker=long[:-1] + "b")),
             ("edge-1", train_task(image=f"{IMAGE}.1")), (long, train_task()),
             ("edge-1", train_task(resources={"memory": "1Gi"}))]  # fmt: skip
    names = [job_name(CLOUD_ID, edge, task) for edge, task in tasks]
    assert len(set(names)) == len(names)
    assert all(map(is_label, names))
    assert job_name("cloud-2", "edge-1", train_task()) not in names
    assert job_name(CLOUD_ID, "edge-1", train_task(active=False)) == names[0]  # a round more needs no other pod


def test_a_job_is_created_once_and_deleted_with_its_task() -> None:
    wanted = _wanted(train_task())
    [manifest] = changes_of(wanted, {}, ALLOWING, CLOUD_ID).create
    name = manifest["metadata"]["name"]
    existing = {name: manifest}
    unchanged = changes_of(wanted, existing, ALLOWING, CLOUD_ID)
    assert (unchanged.create, unchanged.delete, unchanged.problems) == ([], [], {})
    assert changes_of(_wanted(), existing, ALLOWING, CLOUD_ID).delete == [name]


def test_a_worker_that_begins_idle_gets_its_job_when_it_has_something_to_do_and_keeps_it() -> None:
    idle = train_task(active=False)
    assert changes_of(_wanted(idle), {}, ALLOWING, CLOUD_ID).create == []
    [manifest] = changes_of(_wanted(train_task()), {}, ALLOWING, CLOUD_ID).create
    assert changes_of(_wanted(idle), {manifest["metadata"]["name"]: manifest}, ALLOWING, CLOUD_ID).delete == []


def test_another_image_replaces_the_job() -> None:
    [old] = changes_of(_wanted(train_task()), {}, ALLOWING, CLOUD_ID).create
    changed = changes_of(_wanted(train_task(image=f"{IMAGE}.1")), {old["metadata"]["name"]: old}, ALLOWING, CLOUD_ID)
    assert len(changed.create) == 1
    assert changed.delete == [old["metadata"]["name"]]


def test_a_job_that_has_ended_makes_place_and_one_that_is_being_deleted_is_waited_for() -> None:
    name = job_name(CLOUD_ID, "edge-1", train_task())
    ended = _job(name, conditions=[{"type": "Failed", "status": "True"}])
    changes = changes_of(_wanted(train_task()), {name: ended}, ALLOWING, CLOUD_ID)
    assert (changes.create, changes.delete) == ([], [name])
    ended["metadata"]["deletionTimestamp"] = "2026-11-28T00:00:00Z"
    changes = changes_of(_wanted(train_task()), {name: ended}, ALLOWING, CLOUD_ID)
    assert (changes.create, changes.delete) == ([], [])


def test_a_job_stays_while_nothing_is_decided_for_its_edge() -> None:
    [manifest] = changes_of(_wanted(train_task()), {}, ALLOWING, CLOUD_ID).create
    existing = {manifest["metadata"]["name"]: manifest}
    assert changes_of(Wanted({}, {}, undecided={"edge-1"}), existing, ALLOWING, CLOUD_ID).delete == []
    assert changes_of(Wanted({}, {}, undecided={"edge-2"}), existing, ALLOWING, CLOUD_ID).delete == [*existing]


def test_jobs_of_others_are_left_alone() -> None:
    [theirs] = changes_of(_wanted(train_task()), {}, ALLOWING, "cloud-2").create
    foreign = {"metadata": {"name": "backup", "labels": {"app": "backup"}}}
    odd = {"metadata": {"name": "odd", "labels": None}}
    assert changes_of(_wanted(), {"backup": foreign, "odd": odd, "theirs": theirs}, ALLOWING, CLOUD_ID).delete == []


def test_a_task_without_an_image_has_no_job() -> None:
    process = train_task().model_copy(update={"pod": None})
    assert changes_of(_wanted(process), {}, ALLOWING, CLOUD_ID).create == []


@pytest.mark.parametrize(
    ("settings", "fields", "labels", "expected"),
    [
        (PodSettings(), {}, NODES, "may not run here: expected one that the operator allows (none)"),
        (PodSettings(images=("registry.example.com/team",)), {}, NODES, "may not run here"),
        (ALLOWING, {"volumes": [{"mountPath": "/x", "hostPath": "/etc"}]}, NODES, "may not show the node's /etc"),
        (PodSettings(images=("*",), host_paths=("/data",)),
         {"volumes": [{"mountPath": "/x", "hostPath": "/database"}]}, NODES, "may not show the node's /database"),
        (ALLOWING, {}, {}, "expected the edge's label kubernetes.io/hostname"),
    ],
)  # fmt: skip
def test_what_no_job_is_made_for_is_told(settings: PodSettings, fields: Any, labels: Any, expected: str) -> None:
    changes = changes_of(Wanted({"edge-1": [train_task(**fields)]}, labels), {}, settings, CLOUD_ID)
    assert changes.create == []
    [told] = changes.problems["u"]
    assert told.startswith("worker job-worker of edge edge-1: ")
    assert expected in told


NAMED, OTHER = "node-1.site.example", "node-2.site.example"


def test_an_edge_that_names_another_node_than_it_enrolled_by_has_no_jobs() -> None:
    [manifest] = changes_of(_wanted(train_task(), nodes={"edge-1": NAMED}), {}, ALLOWING, CLOUD_ID).create
    taken_over = _wanted(train_task(), nodes={"edge-1": OTHER})
    changes = changes_of(taken_over, {}, ALLOWING, CLOUD_ID)
    assert changes.create == []
    [told] = changes.problems["u"]
    assert f"names node {NAMED}, and it has enrolled as node {OTHER}" in told and "edge revoke edge-1" in told
    name = manifest["metadata"]["name"]
    assert changes_of(taken_over, {name: manifest}, ALLOWING, CLOUD_ID).delete == [name]  # it may run there


async def test_the_node_is_the_one_of_the_enrolment_not_of_the_report() -> None:
    world = World()
    async with connect(f"memory://nodes-{world.new_id()}", world=world) as bus:
        store = ResourceStore(await bus.kv("resources"), world)
        for name, node in (("edge-1", OTHER), ("edge-2", NAMED), ("edge-3", "")):
            made = {"metadata": {"name": name}, "spec": {"labels": {HOSTNAME: NAMED}}, "status": {"node": node}}
            await store.create(Edge.model_validate(made))
        desired = Desired(edge="e", generation=Generation(), tasks=[train_task()])
        wanted = pods_wanted(store, lambda edge: desired, "workers")
    changes = changes_of(wanted, {}, ALLOWING, CLOUD_ID)
    assert [each["metadata"]["labels"]["edgeai.io/edge"] for each in changes.create] == ["edge-2", "edge-3"]
    assert [node_of(edge) for edge in store.all(Edge)] == ["", NAMED, NAMED]


async def test_the_pod_of_an_edges_own_loop_is_there_before_it_has_something_to_do() -> None:
    learned = {"model": {"name": "m"}, "workerSpec": {"image": IMAGE, "args": ["/app/learn.py"]}}
    spec = IncrementalLearningJobSpec.model_validate({"models": [learned], "location": "edge"})
    loop = EdgeLoop(uid="u", queue="job", spec=spec)
    async with connect("memory://pods-of-loops") as bus:
        store = ResourceStore(await bus.kv("resources"), World())
        await store.create(Edge.model_validate({"metadata": {"name": "edge-1"}, "spec": {"labels": {HOSTNAME: NAMED}}}))

        def jobs(**changes: Any) -> list[dict[str, Any]]:
            loops = {"job": loop.model_copy(update=changes)}
            desired = Desired(edge="edge-1", generation=Generation(), loops=loops)
            return changes_of(pods_wanted(store, lambda edge: desired, "workers"), {}, ALLOWING, CLOUD_ID).create

        (job,) = jobs()
        assert jobs(stopped=True) == []
    container = _pod(job)["containers"][0]
    assert (container["image"], container["args"]) == (IMAGE, ["/app/learn.py"])
    worker = loop.spec.models[0].worker_spec  # the agent lets in the pod of this identity
    identity = pod_of(worker, worker.resources, "u")
    assert identity is not None and {"name": IDENTITY_VARIABLE, "value": identity.identity} in container["env"]


@pytest.mark.parametrize("image", ["*", IMAGE, "registry.example.com/", "registry.example.com/team/trainer:"])
def test_an_image_is_allowed_by_its_name_or_a_beginning_of_it(image: str) -> None:
    assert changes_of(_wanted(train_task()), {}, PodSettings(images=(image,)), CLOUD_ID).create


def test_a_job_belongs_to_its_custom_resource() -> None:
    owner = {"apiVersion": "edgeai.io/v1alpha1", "kind": "FederatedTask", "name": "job", "uid": "u"}
    [manifest] = changes_of(_wanted(train_task(), owners={"u": owner}), {}, ALLOWING, CLOUD_ID).create
    assert manifest["metadata"]["ownerReferences"] == [owner]
    kubernetes_validate.validate(manifest, VERSIONS[1], strict=True)


class _Cluster:
    """Jobs in memory; those that it refuses are named."""

    def __init__(self, refusing: str = "") -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self._refusing = refusing

    async def create(self, manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        if self._refusing and self._refusing in name:
            raise Refused("invalid", field="spec", expected="a quota that is not used up", got=name)
        self.objects[name] = manifest

    async def delete(self, name: str) -> None:
        self.objects.pop(name, None)


def test_reconciling_creates_and_deletes_and_a_refused_job_stops_no_other() -> None:
    cluster = _Cluster(refusing="refused")
    jobs = WorkerJobs(cluster, ALLOWING, CLOUD_ID)
    asyncio.run(jobs.reconcile(_wanted(train_task("a", worker="refused"), train_task("b", worker="taken"))))
    assert len(cluster.objects) == 1
    assert list(jobs.problems) == ["a"]
    assert "cannot be created" in jobs.problems["a"][0]
    asyncio.run(jobs.reconcile(_wanted()))
    assert (cluster.objects, jobs.problems) == ({}, {})
