"""The chart as it is rendered, and its parts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "heliograph"
HALL = {"name": "hall", "nodeGroup": "hall", "invitation": "heliograph-invitation-hall", "labels": {"site": "hall"}}
DATA = {"name": "data", "hostPath": "/srv/data", "path": "/srv/data", "readOnly": True}
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "one server": {"nats": {"servers": 1, "service": {"type": "NodePort", "natsNodePort": 30_422}}},
    "agents": {"agents": {"groups": [HALL, {"name": "yard", "invitation": "yard"}]}},
    "agents with a broker of their own": {"agents": {"nodeBroker": "own", "holdUpgrade": True, "groups": [HALL]}},
    "agents with a broker elsewhere": {
        "agents": {"nodeBroker": "external", "nodeBrokerUrl": "mqtt://10.0.0.9:1883", "prepareDirectory": False,
                   "pods": {"enabled": False}, "groups": [{**HALL, "args": ["--data", "/srv/data"], "mounts": [DATA]}]},
    },
    "agents with names of devices": {"agents": {"devicesMap": '[[devices]]\npreset = "tasmota"\n', "groups": [HALL]}},
    "coordinators apart": {"coordinator": {"authority": {"accessMode": "ReadWriteMany", "className": "nfs"}}},
    "two namespaces": {"coordinator": {"kubernetes": {"namespaces": ["berlin", "oslo"]}}},
    "no Kubernetes": {"coordinator": {"kubernetes": {"enabled": False}}, "networkPolicy": {"enabled": False},
                      "podDisruptionBudget": {"enabled": False}, "cloudAgent": {"enabled": False}},
    "scripts in the cloud": {"cloudAgent": {"args": ["--code", "/code"], "sitePolicy": "[workers]\nprocesses = 64\n",
                                            "mounts": [{"name": "code", "claim": "code", "path": "/code",
                                                        "readOnly": True}]}},
}  # fmt: skip
"""Values by what they are an example of."""


@lru_cache
def chart() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)


def rendered(values: dict[str, Any] | None = None, name: str = "heliograph") -> list[dict[str, Any]]:
    """Return the manifests of a release."""
    files = chart().render(values or {}, name=name, namespace="heliograph")
    texts = [text for file, text in sorted(files.items()) if not file.endswith("NOTES.txt")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def notes(values: dict[str, Any]) -> str:
    files = chart().render(values, name="heliograph", namespace="heliograph")
    return next(text for file, text in files.items() if file.endswith("NOTES.txt"))


def named(manifests: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """Return the one manifest of a kind whose name begins so."""
    (found,) = (each for each in manifests if each["kind"] == kind and each["metadata"]["name"].startswith(name))
    return found


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each workload, and the spec of its pods."""
    for each in manifests:
        if each["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container.get("env", ())}
