"""Agents on KubeEdge: what their DaemonSets say, as KubeEdge needs it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from heliograph.coordinator.kubernetes.pod_settings_file import read_pod_settings
from tests.deploy.rendered import CASES, HALL, containers, named, rendered, variables


def daemon_set(name: str = "hall", **agents: Any) -> dict[str, Any]:
    groups = [HALL, {"name": "yard", "invitation": "yard"}]
    return named(rendered({"agents": {"groups": groups, **agents}}), "DaemonSet", f"heliograph-agents-{name}")


def pod_of(daemon: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = daemon["spec"]["template"]["spec"]
    return found


def agent_of(pod: dict[str, Any]) -> dict[str, Any]:
    return next(each for each in pod["containers"] if each["name"] == "agent")


def test_agents_run_on_edges_alone_and_stay_there_while_the_link_is_down() -> None:
    pod = pod_of(daemon_set())
    assert pod["nodeSelector"] == {"node-role.kubernetes.io/edge": "", "apps.kubeedge.io/belonging-to": "hall"}
    assert pod_of(daemon_set("yard"))["nodeSelector"] == {"node-role.kubernetes.io/edge": ""}
    for fault in ("unreachable", "not-ready"):
        toleration = {"key": f"node.kubernetes.io/{fault}", "operator": "Exists", "effect": "NoExecute"}
        assert toleration in pod["tolerations"], "without seconds: for ever"


def test_agents_need_neither_cluster_dns_nor_api() -> None:
    pod = pod_of(daemon_set())
    assert (pod["hostNetwork"], pod["dnsPolicy"], pod["automountServiceAccountToken"]) == (True, "Default", False)
    assert not any("heliograph-nats" in value for each in containers(pod) for value in variables(each).values())


def test_an_agent_waits_for_the_state_of_the_one_before_it() -> None:
    pod = pod_of(daemon_set())
    assert variables(agent_of(pod))["HELIOGRAPH_WAIT"] == "1"
    (state,) = (each["hostPath"] for each in pod["volumes"] if each["name"] == "directory")
    assert state == {"path": "/var/lib/heliograph", "type": "DirectoryOrCreate"}
    (mount,) = (each for each in agent_of(pod)["volumeMounts"] if each["name"] == "directory")
    assert mount["mountPath"] == state["path"], "pods of workers share files at the same path"
    assert "--state=/var/lib/heliograph/state" in agent_of(pod)["args"]
    assert variables(agent_of(pod))["HELIOGRAPH_PODS"] == "/var/lib/heliograph/pods"


def test_a_node_that_is_offline_does_not_hold_up_the_others_and_may_decide_when() -> None:
    assert daemon_set()["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": "100%"}
    assert "annotations" not in daemon_set()["spec"]["template"]["metadata"]
    held = daemon_set(holdUpgrade=True)["spec"]
    assert held["template"]["metadata"]["annotations"] == {"edge.kubeedge.io/hold-upgrade": "true"}
    assert held["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": "100%"}, "the old one ends last"


def test_an_edge_knows_its_node_its_group_and_its_labels() -> None:
    args = agent_of(pod_of(daemon_set()))["args"]
    assert {"--label=kubernetes.io/hostname=$(NODE_NAME)", "--label=apps.kubeedge.io/belonging-to=hall",
            "--label=site=hall"} <= set(args)  # fmt: skip
    assert not any(arg.startswith("--name") for arg in args), "the name is that by which the node has enrolled"


def test_a_node_enrols_by_its_groups_invitation_which_may_be_deleted_then() -> None:
    pod = pod_of(daemon_set())
    enroll = next(each for each in pod["initContainers"] if each["name"] == "enroll")
    words = shlex.split(enroll["command"][-1].splitlines()[-1])
    assert words == ["exec", "heliograph", "enroll", "@/invitation/invitation", "--node-name", "$NODE_NAME", "--once",
                     "--state", "$STATE"]  # fmt: skip
    (invitation,) = (each["secret"] for each in pod["volumes"] if each["name"] == "invitation")
    assert invitation["secretName"] == "heliograph-invitation-hall" and invitation["optional"] is True
    assert not any(each["name"] == "invitation" for each in agent_of(pod)["volumeMounts"])


def test_devices_come_by_the_nodes_broker() -> None:
    assert variables(agent_of(pod_of(daemon_set())))["HELIOGRAPH_NODE"] == "mqtt://127.0.0.1:1883"
    external = named(rendered(CASES["agents with a broker elsewhere"]), "DaemonSet", "heliograph-agents-hall")
    assert variables(agent_of(pod_of(external)))["HELIOGRAPH_NODE"] == "mqtt://10.0.0.9:1883"
    own = pod_of(daemon_set(nodeBroker="own"))
    assert [each["name"] for each in own["containers"]] == ["agent", "broker"]
    config = named(rendered(CASES["agents with a broker of their own"]), "ConfigMap", "heliograph-agents")
    lines = config["data"]["mosquitto.conf"].splitlines()
    assert [line for line in lines if line.startswith("listener")] == ["listener 1883 127.0.0.1"]


def test_workers_have_a_broker_that_lets_nobody_in_without_a_login() -> None:
    for broker in ({}, {"nodeBroker": "own"}, {"nodeBroker": "external", "nodeBrokerUrl": "mqtt://10.0.0.9:1883"}):
        assert variables(agent_of(pod_of(daemon_set(**broker))))["HELIOGRAPH_WORKER_BROKER"] == "own"


def test_no_agents_without_a_group() -> None:
    assert not any(each["kind"] == "DaemonSet" for each in rendered())


def test_the_operator_and_the_agents_mean_the_same_directories(tmp_path: Path) -> None:
    pods = {"images": ["registry.example.com/team/", "*"], "hostPaths": ["/srv/data"], "namespace": "workers"}
    values = {"agents": {"directory": "/srv/heliograph", "groups": [HALL], "pods": pods}}
    file = tmp_path / "pods.toml"
    file.write_text(named(rendered(values), "ConfigMap", "heliograph-coordinator")["data"]["pods.toml"])
    settings = read_pod_settings(file)
    assert (settings.namespace, settings.images, settings.host_paths) == (
        "workers", ("registry.example.com/team/", "*"), ("/srv/data",)
    )  # fmt: skip
    pod = pod_of(named(rendered(values), "DaemonSet", "heliograph-agents-hall"))
    agent = agent_of(pod)
    assert variables(agent)["HELIOGRAPH_PODS"] == settings.pods
    for option, directory in (("state", settings.state), ("code", settings.code), ("data", settings.data)):
        assert f"--{option}={directory}" in agent["args"]
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["runAsGroup"] == settings.user
    coordinator = named(rendered(values), "Deployment", "heliograph-coordinator")["spec"]["template"]["spec"]
    assert variables(coordinator["containers"][0])["HELIOGRAPH_WORKER_PODS"] == "/config/pods.toml"
    nobody = named(rendered(), "ConfigMap", "heliograph-coordinator")["data"]["pods.toml"]
    file.write_text(nobody)
    assert read_pod_settings(file).images == (), "an image is code: none may run by default"
