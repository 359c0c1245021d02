"""The kustomize bases are the chart's manifests, and the overlays render what the chart does with the same values."""

from __future__ import annotations

import re
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.rendered import CHART, ROOT, named
from upkeep.kustomize import EDGES, ONE_SERVER, Manifest, files, manifests

KUSTOMIZE = ROOT / "deploy" / "kustomize"
OVERLAYS = sorted(each.name for each in (KUSTOMIZE / "overlays").iterdir())
HASH = re.compile(r"-(?=[a-z0-9]*\d)[a-z0-9]{10}$")
SAME: dict[str, dict[str, Any]] = {
    "three-servers": EDGES,
    "one-server": EDGES | ONE_SERVER | {"coordinator": {"replicas": 1}},
}
"""Values of the chart by the overlay that says the same."""


@cache
def overlay(name: str) -> list[Manifest]:
    """Return what kubectl makes of an overlay."""
    kubectl = Path(sys.executable).parent / "kubectl"
    command = [kubectl, "kustomize", KUSTOMIZE / "overlays" / name]
    made = subprocess.run(command, capture_output=True, check=True, text=True)
    return list(yaml.safe_load_all(made.stdout))


def comparable(given: list[Manifest]) -> dict[tuple[str, str, str], Manifest]:
    """Return manifests without the hashes of ConfigMaps' names, and without registries."""
    found = {}
    for each in deepcopy(given):
        metadata = each["metadata"]
        if each["kind"] == "ConfigMap":
            metadata["name"] = HASH.sub("", metadata["name"])
        pod = each.get("spec", {}).get("template", {}).get("spec", {})
        for volume in pod.get("volumes", ()):
            if "configMap" in volume:
                volume["configMap"]["name"] = HASH.sub("", volume["configMap"]["name"])
        for container in (*pod.get("initContainers", ()), *pod.get("containers", ())):
            container["image"] = container["image"].removeprefix("registry.example.com/")
            container["env"] = sorted(container.get("env", ()), key=lambda variable: str(variable["name"]))
        found[each["kind"], metadata.get("namespace", ""), metadata["name"]] = each
    return found


def test_the_bases_are_made_from_the_chart_as_it_is() -> None:
    made = files(CHART)
    for path, text in made.items():
        file = KUSTOMIZE / path
        assert file.exists() and file.read_text() == text, f"{path} is stale: run 'make kustomize'"
    there = {str(file.relative_to(KUSTOMIZE)) for base in ("base", "edges") for file in (KUSTOMIZE / base).rglob("*.*")}
    assert there == {path for path in made if not path.startswith("overlays/")}


@pytest.mark.parametrize(("name", "values"), SAME.items(), ids=SAME)
def test_an_overlay_is_what_the_chart_is_with_the_same_values(name: str, values: dict[str, Any]) -> None:
    assert comparable(overlay(name)) == comparable(list(manifests(CHART, values)))


@pytest.mark.parametrize("name", OVERLAYS)
def test_kubernetes_takes_each_manifest_of_an_overlay(name: str) -> None:
    for each in overlay(name):
        kubernetes_validate.validate(each, "1.36", strict=True)


def test_a_config_map_is_named_by_its_content() -> None:
    one, three = (named(overlay(name), "ConfigMap", "heliograph-nats")["metadata"]["name"] for name in SAME)
    assert one != three
    workload = named(overlay("one-server"), "StatefulSet", "heliograph-nats")
    assert workload["spec"]["replicas"] == 1


def test_a_group_has_pods_nodes_and_an_invitation_of_its_own() -> None:
    both = (named(overlay(name), "DaemonSet", "heliograph-agents") for name in ("hall", "three-servers"))
    daemon, of_all = (each["spec"] for each in both)
    assert daemon["selector"] != of_all["selector"]
    pod = daemon["template"]["spec"]
    assert daemon["selector"]["matchLabels"].items() <= daemon["template"]["metadata"]["labels"].items()
    assert pod["nodeSelector"] == {"node-role.kubernetes.io/edge": "", "apps.kubeedge.io/belonging-to": "hall"}
    (invitation,) = (each["secret"] for each in pod["volumes"] if each["name"] == "invitation")
    assert invitation["secretName"] == "heliograph-invitation-hall" and invitation["optional"] is True
    (account,) = (each["metadata"]["name"] for each in overlay("hall") if each["kind"] == "ServiceAccount")
    assert pod["serviceAccountName"] == account
