"""What pods of the chart may do: no more than they need."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.rendered import CASES, HALL, containers, named, pods, rendered

CASE = pytest.mark.parametrize("values", CASES.values(), ids=CASES)
AGENTS = {"agents": {"groups": [HALL]}}


@CASE
def test_no_container_is_root_writes_its_root_or_gains_rights(values: dict[str, Any]) -> None:
    for name, pod in pods(rendered(values)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10_001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(pod):
            found = container["securityContext"]
            assert found["readOnlyRootFilesystem"] is True and found["allowPrivilegeEscalation"] is False
            assert found["capabilities"]["drop"] == ["ALL"]
            if container["name"] == "directory" and "-agents-" in name:
                continue  # kubelet makes a hostPath root's: it alone gives it away
            assert "runAsUser" not in found and "add" not in found["capabilities"]


def test_the_one_part_that_is_root_may_only_give_a_directory_away() -> None:
    pod = named(rendered(AGENTS), "DaemonSet", "heliograph-agents-hall")["spec"]["template"]["spec"]
    (root,) = (each for each in containers(pod) if each["securityContext"].get("runAsUser") == 0)
    assert root["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    assert [each["name"] for each in root["volumeMounts"]] == ["directory"]
    without = rendered({"agents": {"groups": [HALL], "prepareDirectory": False}})
    pod = named(without, "DaemonSet", "heliograph-agents-hall")["spec"]["template"]["spec"]
    assert all(each["securityContext"].get("runAsUser") != 0 for each in containers(pod))


@CASE
def test_the_operator_alone_gets_a_token(values: dict[str, Any]) -> None:
    enabled = values.get("coordinator", {}).get("kubernetes", {}).get("enabled", True)
    for name, pod in pods(rendered(values)):
        assert pod["automountServiceAccountToken"] is (enabled and name == "heliograph-coordinator")
    assert all(each["automountServiceAccountToken"] is False for each in rendered(values)
               if each["kind"] == "ServiceAccount")  # fmt: skip


@CASE
def test_no_secret_stands_in_an_argument_a_variable_or_a_config_map(values: dict[str, Any]) -> None:
    for _, pod in pods(rendered(values)):
        for container in containers(pod):
            assert not any("secretKeyRef" in each.get("valueFrom", {}) for each in container.get("env", ()))
            assert "envFrom" not in container
    assert not any(each["kind"] == "Secret" for each in rendered(values))


@CASE
def test_secrets_are_read_by_the_containers_that_need_them(values: dict[str, Any]) -> None:
    for name, pod in pods(rendered(values)):
        read = {each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
        part = name.removeprefix("heliograph-")
        wanted = {"nats": {"heliograph-broker"}, "coordinator": {"heliograph-coordinator"},
                  "cloud-agent": {"heliograph-cloud-agent"}}  # fmt: skip
        if part in wanted:
            assert read == wanted[part]
        else:
            assert len(read) == 1 and not read & {"heliograph-broker", "heliograph-coordinator"}


def test_servers_reach_each_other_and_nobody_else() -> None:
    manifests = rendered()
    nats = named(manifests, "NetworkPolicy", "heliograph-nats")["spec"]
    (routes,) = (each for each in nats["ingress"] if each["ports"][0]["port"] == 6222)
    assert routes["from"] == [{"podSelector": nats["podSelector"]}]
    for name in ("heliograph-coordinator", "heliograph-cloud-agent"):
        policy = named(manifests, "NetworkPolicy", name)["spec"]
        assert policy["ingress"] == [] and policy["policyTypes"] == ["Ingress", "Egress"]
