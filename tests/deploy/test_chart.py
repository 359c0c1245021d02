"""The chart renders manifests that Kubernetes takes, refuses values that it does not know, and has our definitions."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from heliograph.edge_agent.devices.mapping_file import read_mapping
from tests.deploy.rendered import CASES, CHART, HALL, ROOT, chart, named, notes, rendered

CASE = pytest.mark.parametrize("values", CASES.values(), ids=CASES)


def test_the_chart_is_of_the_projects_version_and_names_the_images_that_are_built() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about, values = chart().metadata, chart().values
    assert about["version"] == about["appVersion"] == project["version"].partition(".dev")[0]
    for image, file in ((values["image"], "cloud"), (values["agents"]["image"], "agent")):
        assert f"-t {image['repository']} ." in (ROOT / "deploy" / "docker" / f"{file}.Dockerfile").read_text()


def test_helm_finds_no_fault_in_the_chart() -> None:
    found = helm_python.lint(str(CHART))
    assert found["errors"] == []
    assert [each for each in found["messages"] if "icon" not in each["error"]] == []


@CASE
@pytest.mark.parametrize("version", ["1.29", "1.36"])
def test_kubernetes_takes_each_manifest(values: dict[str, Any], version: str) -> None:
    for manifest in rendered(values):
        kubernetes_validate.validate(manifest, version, strict=True)


@CASE
def test_each_manifest_has_a_name_of_its_own_and_says_what_it_is_part_of(values: dict[str, Any]) -> None:
    manifests = rendered(values)
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in manifests]
    assert len(set(names)) == len(names)
    for each in manifests:
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "heliograph"


def test_two_releases_share_nothing() -> None:
    first, second = ({(each["kind"], each["metadata"]["name"]) for each in rendered(CASES["agents"], name)}
                     for name in ("north", "south"))  # fmt: skip
    assert first & second == set()


def test_the_chart_has_the_definitions_of_the_models() -> None:
    files = {each["filename"].rpartition("/")[2]: each["data"] for each in chart().crds}
    own = {file.name for file in (ROOT / "deploy" / "crds").glob("*.yaml")}
    assert own and set(files) == own


@CASE
def test_selectors_find_the_pods_that_they_are_meant_for(values: dict[str, Any]) -> None:
    manifests = rendered(values)
    templates = [each["spec"]["template"] for each in manifests if "template" in each.get("spec", {})]
    labels = [each["metadata"]["labels"] for each in templates]

    def found(selector: dict[str, str]) -> int:
        return sum(selector.items() <= each.items() for each in labels)

    for each in manifests:
        match each["kind"]:
            case "Deployment" | "StatefulSet" | "DaemonSet" | "PodDisruptionBudget":
                assert found(each["spec"]["selector"]["matchLabels"]) == 1
            case "NetworkPolicy":
                assert found(each["spec"]["podSelector"]["matchLabels"]) == 1
            case "Service":
                assert found(each["spec"]["selector"]) == 1


@CASE
def test_each_volume_is_there_and_each_claim_and_service_account_is_rendered(values: dict[str, Any]) -> None:
    manifests = rendered(values)
    known = {(each["kind"], each["metadata"]["name"]) for each in manifests}
    for each in manifests:
        if each["kind"] not in ("Deployment", "StatefulSet", "DaemonSet"):
            continue
        pod, templates = each["spec"]["template"]["spec"], each["spec"].get("volumeClaimTemplates", ())
        volumes = {volume["name"] for volume in (*pod["volumes"], *(each["metadata"] for each in templates))}
        mounted = {mount["name"] for container in (*pod.get("initContainers", ()), *pod["containers"])
                   for mount in container.get("volumeMounts", ())}  # fmt: skip
        assert mounted == volumes
        assert ("ServiceAccount", pod["serviceAccountName"]) in known
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in known


def test_another_content_gets_another_name() -> None:
    """An edge that was offline would go on with the old content under the same name."""

    def name(policy: str) -> str:
        return str(named(rendered({"agents": {"groups": [HALL], "sitePolicy": policy}}), "ConfigMap",
                         "heliograph-agents")["metadata"]["name"])  # fmt: skip

    assert name("[workers]\nprocesses = 64\n") != name("[workers]\nprocesses = 65\n")
    assert name("[workers]\nprocesses = 64\n") == name("[workers]\nprocesses = 64\n")
    assert all(each["immutable"] for each in rendered(CASES["agents"]) if each["kind"] == "ConfigMap")


def test_agents_read_the_mapping_of_devices_that_the_values_have(tmp_path: Path) -> None:
    manifests = rendered(CASES["agents with names of devices"])
    content = named(manifests, "ConfigMap", "heliograph-agents")["data"]
    (tmp_path / "devices.toml").write_text(content["devices.toml"])
    assert read_mapping(tmp_path / "devices.toml", "edge-1").filters[0] == "tele/+/#"
    (pod,) = [each["spec"]["template"]["spec"] for each in manifests if each["kind"] == "DaemonSet"]
    variables = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert variables["HELIOGRAPH_DEVICES_MAP"] == "/config/devices.toml"
    assert "devices.toml" not in named(rendered(CASES["agents"]), "ConfigMap", "heliograph-agents")["data"]


@pytest.mark.parametrize(
    ("values", "named_in_it"),
    [
        ({"nats": {"server": 3}}, "server"),
        ({"nats": {"servers": 2}}, "/nats/servers"),
        ({"coordinators": 2}, "coordinators"),
        ({"coordinator": {"replicas": 0}}, "/coordinator/replicas"),
        ({"coordinator": {"quotas": ["jobs"]}}, "/coordinator/quotas/0"),
        ({"coordinator": {"defaultScope": "root"}}, "/coordinator/defaultScope"),
        ({"agents": {"nodeBroker": "mosquitto"}}, "/agents/nodeBroker"),
        ({"agents": {"nodeBroker": "external"}}, "/agents/nodeBrokerUrl"),
        ({"agents": {"nodeBroker": "external", "nodeBrokerUrl": "mqtt://u:secret@h"}}, "/agents/nodeBrokerUrl"),
        ({"agents": {"directory": "/var/../etc"}}, "/agents/directory"),
        ({"agents": {"directory": "state"}}, "/agents/directory"),
        ({"agents": {"groups": [{**HALL, "name": "Hall.1"}]}}, "/agents/groups/0/name"),
        ({"agents": {"groups": [{"name": "hall"}]}}, "invitation"),
        ({"cloudAgent": {"mounts": [{"name": "secrets", "claim": "c", "path": "/x", "readOnly": True}]}}, "/name"),
        ({"image": {"repository": "--flag"}}, "/image/repository"),
    ],
)
def test_values_that_the_chart_does_not_know_are_refused_by_name(values: dict[str, Any], named_in_it: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=named_in_it):
        chart().validate_schema(values)


def test_the_schema_describes_each_value_and_takes_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def check(value: Any, part: dict[str, Any], path: str) -> None:
        part = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        if isinstance(value, dict) and "properties" in part:
            assert part["additionalProperties"] is False, path
            assert set(value) <= set(part["properties"]), path
            for name, below in value.items():
                check(below, part["properties"][name], f"{path}.{name}")

    check(values, schema, "")
    assert set(schema["properties"]) - {"global"} == set(values)


@CASE
def test_the_values_of_the_examples_are_valid(values: dict[str, Any]) -> None:
    chart().validate_schema(values)


def test_the_notes_say_what_to_do_next() -> None:
    text = notes({"agents": {"groups": [HALL]}})
    for wanted in ("heliograph secrets ./cloud", "--servers 3", "heliograph edge invite hall", "CVE-2026-62371",
                   "1.21.2, 1.22.2, 1.23.1", "kubectl apply --server-side -f deploy/crds", "NetworkPolicy"):
        assert wanted in text


def test_the_values_of_the_page_are_valid_and_make_the_group_that_it_shows() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    values = yaml.safe_load(text)
    chart().validate_schema(values)
    daemon = named(rendered(values), "DaemonSet", "heliograph-agents-hall")
    assert daemon["spec"]["template"]["spec"]["nodeSelector"]["apps.kubeedge.io/belonging-to"] == "hall"
    assert set(re.findall(r"`agents\.(\w+)", page)) <= set(chart().values["agents"])
    assert set(re.findall(r"`coordinator\.(\w+)", page)) <= set(chart().values["coordinator"])
