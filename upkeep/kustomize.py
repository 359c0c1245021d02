"""Write the bases of ``deploy/kustomize`` from the Helm chart, so that both are the same.

    base/                 brokers, coordinators, the cloud's agent
    edges/                agents on all edge nodes of KubeEdge
    overlays/one-server/  what differs where the broker is one server: its configuration

ConfigMaps become files with a generator: kustomize names them by their content, as the chart does.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path("deploy/helm/heliograph")
NAMESPACE = "heliograph"
EDGES: dict[str, Any] = {"agents": {"groups": [{"name": "edges", "invitation": "heliograph-invitation-edges"}]}}
ONE_SERVER: dict[str, Any] = {"nats": {"servers": 1}}
_HASH = re.compile(r"-[0-9a-f]{10}$")
_HELMS_OWN = ("app.kubernetes.io/managed-by", "helm.sh/resource-policy")
Manifest = dict[str, Any]


def main(words: list[str]) -> int:
    """Write the files below a directory."""
    for path, text in files(CHART).items():
        file = Path(words[0]) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return 0


def files(chart: Path) -> dict[str, str]:
    """Return the content of each file by its path below ``deploy/kustomize``."""
    every = list(manifests(chart, EDGES))
    of_edges = [each for each in every if _component(each).startswith("agents")]
    one = [each for each in manifests(chart, ONE_SERVER) if each["kind"] == "ConfigMap" and _component(each) == "nats"]
    found = {**_base("base", [each for each in every if each not in of_edges]), **_base("edges", of_edges)}
    return found | {f"overlays/one-server/{path}": text for path, text in _contents(one)}


def manifests(chart: Path, values: Manifest) -> Iterator[Manifest]:
    """Yield what a chart renders, less what is Helm's own."""
    import helm_python

    with helm_python.Chart.load(chart) as loaded:
        rendered = loaded.render(values, name="heliograph", namespace=NAMESPACE)
    for file, text in sorted(rendered.items()):
        if not file.endswith("NOTES.txt"):
            yield from map(_without_helm, filter(None, yaml.safe_load_all(text)))


def _without_helm(manifest: Manifest) -> Manifest:
    metadata = manifest["metadata"]
    for part in ("labels", "annotations"):
        kept = {key: value for key, value in metadata.pop(part, {}).items() if key not in _HELMS_OWN}
        if kept:
            metadata[part] = kept
    template = manifest.get("spec", {}).get("template", {})
    template.get("metadata", {}).get("labels", {}).pop(_HELMS_OWN[0], None)
    for volume in template.get("spec", {}).get("volumes", ()):
        if "configMap" in volume:
            volume["configMap"]["name"] = _HASH.sub("", volume["configMap"]["name"])
    return manifest


def _component(manifest: Manifest) -> str:
    return str(manifest["metadata"]["labels"]["app.kubernetes.io/component"])


def _base(directory: str, given: Iterable[Manifest]) -> dict[str, str]:
    configs, others = [], dict[str, list[Manifest]]()
    for each in given:
        if each["kind"] == "ConfigMap":
            configs.append(each)
        else:
            others.setdefault(f"{each['kind'].lower()}.yaml", []).append(each)
    generated = [
        {
            "name": _HASH.sub("", each["metadata"]["name"]),
            "files": sorted(path for path, _ in _contents([each])),
            "options": {"labels": each["metadata"]["labels"]},
        }
        for each in configs
    ]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": sorted(others),
        "generatorOptions": {"immutable": True},
        "configMapGenerator": generated,
    }
    found = {name: _MADE + yaml.safe_dump_all(each, sort_keys=False, width=1000) for name, each in others.items()}
    found["kustomization.yaml"] = _MADE + yaml.safe_dump(kustomization, sort_keys=False, width=1000)
    return {f"{directory}/{path}": text for path, text in (*found.items(), *_contents(configs))}


def _contents(configs: Iterable[Manifest]) -> Iterator[tuple[str, str]]:
    for each in configs:
        yield from ((f"{_component(each)}/{file}", text) for file, text in each["data"].items())


_MADE = "# Made from deploy/helm by 'make kustomize'.\n"

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
