"""On a real cluster that the tests may use as their own, the operator logs in with the chart's ServiceAccount."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from heliograph.coordinator.kubernetes.api import JOBS, NAMESPACES, Api
from heliograph.coordinator.kubernetes.operator import OperatorSettings
from heliograph.coordinator.kubernetes.worker_job import HOSTNAME, PodSettings
from tests.deploy.rendered import rendered
from tests.deploy.test_rights import HOME, OPERATED, do_all
from tests.kubernetes.conftest import OWN
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.running_operator import operating
from tests.kubernetes.test_pods_of_a_job import WORKER, edge_reports, the_job

pytestmark = pytest.mark.skipif(not OWN, reason="HELIOGRAPH_TEST_OWN_CLUSTER=1 names no cluster for it")
NOT_ALLOWED = "needs the verb"


@pytest.fixture
async def log_in(
    kubernetes: Api, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]
) -> AsyncIterator[None]:
    """Let what connects from now on log in as the coordinator of a release with these values."""
    kubectl = Kubectl(kubeconfig, tmp_path)
    kinds = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    manifests = [each for each in rendered(values) if each["kind"] in kinds]
    for each in manifests:
        if not each["kind"].startswith("Cluster"):
            each["metadata"].setdefault("namespace", HOME)
    for name in (HOME, "berlin", "oslo"):
        await kubernetes.create(NAMESPACES, "", {"metadata": {"name": name}})
    text = yaml.safe_dump_all(manifests)
    await kubectl("apply", "-f", "-", given=text)
    token = await kubectl("create", "token", "heliograph-coordinator", "--namespace", HOME)
    config = yaml.safe_load(kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": token.strip()}
    (tmp_path / "of-the-coordinator").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "of-the-coordinator"))
    yield
    await kubectl("delete", "--ignore-not-found", "-f", "-", given=text)


@pytest.mark.parametrize(("values", "namespace"), OPERATED.values(), ids=OPERATED)
async def test_the_operator_does_all_it_does_as_the_charts_service_account(
    kubernetes: Api, log_in: None, values: dict[str, Any], namespace: str
) -> None:
    namespaces = values.get("coordinator", {}).get("kubernetes", {}).get("namespaces", [])
    settings = OperatorSettings(HOME, namespaces, PodSettings(HOME, images=("*",)))
    async with operating(kubernetes, settings) as running:
        await do_all(running, namespace)
        await edge_reports(running, **{HOSTNAME: "node-1"})
        await running.client.models.create({"kind": "Model", "metadata": {"name": "of-answers"}})
        spec = {"edgeWorker": {**WORKER, "model": {"name": "of-answers"}}}
        await running.client.services.create(
            {"kind": "JointInferenceService", "metadata": {"name": "answers"}, "spec": spec}
        )
        made = await the_job(running, HOME)
        await running.client.services.delete("answers")
        await running.until_gone(JOBS, made["metadata"]["name"], HOME)
    assert not [line for line in running.printed.lines if NOT_ALLOWED in line]
