"""The chart's Roles are what the operator needs, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from heliograph.bus.contract.custom_resources.definitions import GROUP, KINDS, plural_of
from heliograph.coordinator.kubernetes.api import EVENTS, JOBS, NAMESPACES, PODS, Api, Object
from heliograph.coordinator.kubernetes.operator import OperatorSettings
from heliograph.coordinator.kubernetes.worker_job import PodSettings
from tests.deploy.rendered import CASES, ROOT, rendered
from tests.deploy.rights import rights_of
from tests.kubernetes.api_server.server import ApiServer
from tests.kubernetes.running_operator import JOB, MODEL, Running, custom, job, operating
from tests.patience import HANGS

Rights = Callable[[str, str, str], bool]
HOME = "heliograph"
OPERATED = {
    "all namespaces": ({}, "berlin"),
    "one namespace": ({"coordinator": {"kubernetes": {"namespaces": ["berlin"]}}}, "berlin"),
    "two namespaces": (CASES["two namespaces"], "oslo"),
}


def rights(values: dict[str, Any]) -> Rights:
    return rights_of(rendered(values), "heliograph-coordinator", HOME)


def recorded(may: Rights, refused: list[str]) -> Rights:
    """Return the same rights; what they refuse is kept."""

    def asked(verb: str, resource: str, namespace: str) -> bool:
        allowed = may(verb, resource, namespace)
        if not allowed:
            refused.append(f"{verb} {resource} in {namespace or 'all'}")
        return allowed

    return asked


async def do_all(running: Running, namespace: str) -> None:
    """Let the operator do all that it does with resources of a namespace."""
    await running.api.create(MODEL, namespace, custom("line", "Model", {}, namespace))
    await running.accepted(MODEL, "line", namespace)
    await running.api.create(JOB, namespace, job("train") | {"metadata": {"name": "train", "namespace": namespace}})
    await running.until(JOB, "train", lambda each: each.get("status", {}).get("phase") == "Pending", namespace)
    await made_event(running, namespace)
    await running.api.delete(JOB, namespace, "train")
    await running.until_gone(JOB, "train", namespace)
    shown = {"kind": "Model", "metadata": {"name": "by-topics", "namespace": namespace}, "spec": {}}
    await running.client.models.create(shown)
    await running.until(MODEL, "by-topics", lambda each: "status" in each, namespace)
    await running.client.models.update({**shown, "spec": {"description": "new"}})
    await running.until(MODEL, "by-topics", lambda each: each["spec"].get("description") == "new", namespace)
    await running.client.models.delete("by-topics")
    await running.until_gone(MODEL, "by-topics", namespace)


async def made_event(running: Running, namespace: str) -> None:
    """Return once an event about the job is there."""
    def is_it(event: Object) -> bool:
        return bool(event["involvedObject"]["name"] == "train")

    async with asyncio.timeout(HANGS):
        events, version = await running.api.list(EVENTS, namespace)
        if not any(map(is_it, events)):
            async for change in running.api.watch(EVENTS, version, namespace):
                if change.type == "ADDED" and is_it(change.object):
                    return


@pytest.fixture
def token(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the token that a coordinator logs in with from now on; the test's own client has none."""
    config = yaml.safe_load(api_server.kubeconfig(tmp_path).read_text())
    config["users"][0]["user"] = {"token": "of-the-coordinator"}
    file = tmp_path / "coordinators-kubeconfig"
    file.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(file))
    return "of-the-coordinator"


@pytest.mark.parametrize(("values", "namespace"), OPERATED.values(), ids=OPERATED)
async def test_the_operator_does_all_it_does_with_the_charts_rights_alone(
    kubernetes: Api, api_server: ApiServer, token: str, values: dict[str, Any], namespace: str
) -> None:
    namespaces = values.get("coordinator", {}).get("kubernetes", {}).get("namespaces", [])
    for name in {HOME, namespace, *namespaces}:
        await kubernetes.create(NAMESPACES, "", {"metadata": {"name": name}})
    refused: list[str] = []
    api_server.faults.rights[token] = recorded(rights(values), refused)
    settings = OperatorSettings(HOME, namespaces, PodSettings(HOME, images=("*",)))
    async with operating(kubernetes, settings) as running:
        await do_all(running, namespace)
    assert refused == []


async def test_rights_in_another_namespace_do_not_do(kubernetes: Api, api_server: ApiServer, token: str) -> None:
    api_server.faults.rights[token] = rights({"coordinator": {"kubernetes": {"namespaces": ["elsewhere"]}}})
    async with operating(kubernetes, OperatorSettings(HOME)) as running:
        assert "needs the verb 'list' on" in await running.printed.until("needs the verb")


def test_the_operator_sees_nodes_and_its_own_kinds_and_no_secrets() -> None:
    may = rights({})
    for kind in KINDS:
        resource = f"{plural_of(kind)}.{GROUP}"
        assert may("delete", resource, "anywhere") and may("update", f"{resource}/status", "anywhere")
    for resource in ("secrets", "configmaps", "pods/exec", "serviceaccounts/token", "deployments.apps",
                     "roles.rbac.authorization.k8s.io", "customresourcedefinitions.apiextensions.k8s.io"):  # fmt: skip
        assert not any(may(verb, resource, HOME) for verb in ("get", "list", "create", "update", "patch", "delete"))
    assert may("list", "nodes", "") and not may("update", "nodes", "")
    rules = [rule for each in rendered() if each["kind"].endswith("Role") for rule in each["rules"]]
    assert not any("*" in (*rule["verbs"], *rule["resources"], *rule["apiGroups"]) for rule in rules)


def test_jobs_of_workers_are_made_in_one_namespace_alone() -> None:
    may = rights({"agents": {"pods": {"namespace": "workers"}}})
    assert may("create", JOBS.resource, "workers") and may("watch", PODS.resource, "workers")
    assert not may("create", JOBS.resource, HOME) and not may("list", PODS.resource, "")
    assert not may("create", PODS.resource, "workers")
    without = rights({"agents": {"pods": {"enabled": False}}})
    assert not without("create", JOBS.resource, HOME)


def test_with_namespaces_named_the_operator_writes_in_no_other() -> None:
    models = f"models.{GROUP}"
    one, two = rights(OPERATED["one namespace"][0]), rights(CASES["two namespaces"])
    assert one("create", models, "berlin") and not one("list", models, "")
    assert two("create", models, "oslo") and two("list", models, "")
    for may in (one, two):
        assert not may("create", models, "paris") and not may("create", "events", "paris")


def test_rights_name_each_kind_and_no_other() -> None:
    rules = [rule for each in rendered() if each["kind"] == "ClusterRole" for rule in each["rules"]]
    plurals = {each.split("/")[0] for rule in rules if rule["apiGroups"] == [GROUP] for each in rule["resources"]}
    assert plurals == {plural_of(kind) for kind in KINDS}
    assert plurals == {file.stem.split("_")[1] for file in (ROOT / "deploy" / "crds").glob("*.yaml")}


def test_without_kubernetes_nobody_has_rights() -> None:
    assert not any("Role" in each["kind"] for each in rendered(CASES["no Kubernetes"]))
