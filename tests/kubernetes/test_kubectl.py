"""kubectl as people use it: our definitions, documents of them, and what it says of mistakes."""

from __future__ import annotations

from heliograph.coordinator.kubernetes.api import EVENTS, Kind
from heliograph.coordinator.kubernetes.client import KubernetesClient
from tests.kubernetes.api_server.server import CRDS, ApiServer
from tests.kubernetes.kubectl import Kubectl

MODELS = Kind("edgeai.io", "v1alpha1", "models", "Model")
MODEL = """
apiVersion: edgeai.io/v1alpha1
kind: Model
metadata: {name: digits}
spec: {description: recognises digits}
"""


async def test_a_document_is_applied_shown_and_deleted(kubectl: Kubectl, kubernetes: KubernetesClient) -> None:
    assert await kubectl("apply", "-f", "-", given=MODEL) == "model.edgeai.io/digits created\n"
    assert await kubectl("apply", "-f", "-", given=MODEL) == "model.edgeai.io/digits unchanged\n"
    changed = MODEL.replace("recognises", "reads")
    assert await kubectl("apply", "-f", "-", given=changed) == "model.edgeai.io/digits configured\n"
    assert (await kubernetes.get(MODELS, "default", "digits"))["spec"]["description"] == "reads digits"
    assert (await kubectl("get", "heliograph", "-o", "name")).split() == ["model.edgeai.io/digits"]
    await kubectl("delete", "model", "digits")
    assert await kubectl("get", "models") == ""


async def test_the_columns_of_a_definition_are_printed(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", given=MODEL)
    header, row = (await kubectl("get", "models", "-o", "wide")).splitlines()
    assert header.split() == ["NAME", "FRAMEWORK", "CHAMPION", "DESCRIPTION", "AGE"]
    assert row.split()[:3] == ["digits", "recognises", "digits"]


async def test_an_unknown_field_is_refused_with_its_name(kubectl: Kubectl, kubernetes: KubernetesClient) -> None:
    wrong = MODEL.replace("description", "descripton")
    done = await kubectl.run("apply", "-f", "-", given=wrong)
    assert done.code == 1 and 'unknown field "spec.descripton"' in done.errors
    assert (await kubernetes.list(MODELS))[0] == []


async def test_a_value_that_the_schema_forbids_is_refused(kubectl: Kubectl) -> None:
    done = await kubectl.run("apply", "-f", "-", given=MODEL.replace("recognises digits", "x" * 1025))
    assert done.code == 1 and "spec.description: Too long: may not be more than 1024 bytes" in done.errors


async def test_a_newer_version_is_refused(kubectl: Kubectl) -> None:
    done = await kubectl.run("apply", "-f", "-", given=MODEL.replace("v1alpha1", "v9"))
    assert done.code == 1 and 'no matches for kind "Model" in version "edgeai.io/v9"' in done.errors


async def test_events_are_described_with_the_object_that_they_are_about(
    kubectl: Kubectl, kubernetes: KubernetesClient
) -> None:
    await kubectl("apply", "-f", "-", given=MODEL)
    uid = (await kubernetes.get(MODELS, "default", "digits"))["metadata"]["uid"]
    about = {"apiVersion": MODELS.api_version, "kind": "Model", "name": "digits", "namespace": "default", "uid": uid}
    event = {"metadata": {"name": "digits.1"}, "involvedObject": about, "type": "Normal", "reason": "Accepted",
             "message": "the cloud has taken it", "source": {"component": "heliograph"}}  # fmt: skip
    await kubernetes.create(EVENTS, "default", event)
    await kubernetes.create(EVENTS, "default", {**event, "metadata": {"name": "other.1"}, "message": "elsewhere",
                                                "involvedObject": {**about, "name": "other"}})  # fmt: skip
    described = await kubectl("describe", "model", "digits")
    assert "the cloud has taken it" in described and "elsewhere" not in described


async def test_definitions_are_applied_by_the_server_and_explained(kubectl: Kubectl, api_server: ApiServer) -> None:
    assert len((await kubectl("apply", "--server-side", "-f", str(CRDS))).splitlines()) == len([*CRDS.glob("*.yaml")])
    assert "One participant" in await kubectl("explain", "fedtask.spec.trainingWorkers")
    await kubectl("delete", "-f", str(CRDS))
    assert not any(kind.group == "edgeai.io" for kind in api_server.registry.kinds)
