"""Runs the pods of rendered manifests as processes of this machine, as kubelet would: their volumes are directories,
and the paths of their mounts are replaced wherever they stand."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heliograph.core.world import World
from heliograph.local.child import Child
from tests.patience import HANGS

Manifest = dict[str, Any]
_PROGRAMS = {"python": [sys.executable], "heliograph": [sys.executable, "-m", "heliograph.cli.main"],
             "nats-server": [str(Path(sys.executable).parent / "nats-server")]}  # fmt: skip


@dataclass
class Kubelet:
    """What runs pods.

    Attributes:
        objects: manifests of ConfigMaps and Secrets.
        replaced: texts that stand for others in commands, variables and files: addresses, above all.
    """

    directory: Path
    objects: list[Manifest]
    replaced: dict[str, str] = field(default_factory=dict)

    def pod(self, workload: Manifest, name: str, node: str = "node-1", **replaced: str) -> Pod:
        """Return a pod of a workload; ``replaced`` holds for it alone, with the names of its containers' ports."""
        return Pod(self, workload, name, node, {**self.replaced, **replaced})

    def volume(self, source: Mapping[str, Any], pod: Pod) -> Path:
        """Return the directory of a volume, with what it is made of."""
        match source:
            case {"hostPath": {"path": path}}:
                found = self.directory / "nodes" / pod.node / path.strip("/")
            case {"persistentVolumeClaim": {"claimName": claim}}:
                found = self.directory / "claims" / claim
            case _:
                found = self.directory / "pods" / pod.name / source["name"]
        found.mkdir(parents=True, exist_ok=True)
        for kind in ("configMap", "secret"):
            if kind in source:
                wanted = source[kind].get("name") or source[kind].get("secretName")
                for file, content in self._content(kind, wanted, source[kind].get("optional", False)).items():
                    (found / file).write_text(pod.here(content))
        return found

    def _content(self, kind: str, name: str, optional: bool) -> dict[str, str]:
        for each in self.objects:
            if each["kind"].lower() == kind.lower() and each["metadata"]["name"] == name:
                data: dict[str, str] = each["data"]
                if kind == "secret":
                    return {file: base64.b64decode(text).decode() for file, text in data.items()}
                return data
        assert optional, f"nobody has made {kind} {name}"
        return {}


class Pod:
    """One pod, and the processes of its containers."""

    def __init__(self, kubelet: Kubelet, workload: Manifest, name: str, node: str, replaced: dict[str, str]) -> None:
        self.name = name
        self.node = node
        self.spec = workload["spec"]["template"]["spec"]
        self.children: dict[str, Child] = {}
        self._kubelet = kubelet
        self._replaced = replaced
        self._paths: dict[str, Path] = {}
        volumes = {each["name"]: each for each in self.spec["volumes"]}
        for each in workload["spec"].get("volumeClaimTemplates", ()):
            claim = each["metadata"]["name"]
            volumes[claim] = {"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-{name}"}}
        mounts = {each["mountPath"]: each["name"] for container in self._containers()
                  for each in container.get("volumeMounts", ())}  # fmt: skip
        for path, volume in mounts.items():  # paths first: files of volumes name them
            self._paths[path] = kubelet.volume({"name": volume, **_bare(volumes[volume])}, self)
        for path, volume in mounts.items():
            self._paths[path] = kubelet.volume(volumes[volume], self)

    def here(self, text: str) -> str:
        """Return a text with this machine's paths and addresses in it."""
        for before, after in self._replaced.items():
            text = text.replace(before, after)
        paths = "|".join(re.escape(path) for path in sorted(self._paths, key=len, reverse=True))
        # all at once: what stands in a path's place holds others
        return re.sub(rf"(?<![\w./-])({paths})(?=[/\"' \n;&?]|$)", lambda found: str(self._paths[found[1]]), text)

    async def initialize(self) -> list[str]:
        """Run the init containers to their ends, and return what they print. Each has to succeed."""
        lines: list[str] = []
        for container in self.spec.get("initContainers", ()):
            child = await self._start(container)
            assert child.process is not None
            assert await child.process.wait() == 0, (container["name"], child.lines)
            await child.stop()
            lines += child.lines
        return lines

    async def start(self, container: str = "") -> Child:
        """Start the first container, or that of a name."""
        wanted = container or self.spec["containers"][0]["name"]
        child = await self._start(next(each for each in self.spec["containers"] if each["name"] == wanted))
        self.children[wanted] = child
        return child

    async def until_ready(self) -> None:
        """Ask the readiness probe, as often as a kubelet in a hurry."""
        world = World()
        begun = world.monotonic()
        container = self.spec["containers"][0]
        while world.monotonic() < begun + HANGS:
            running = self.children[container["name"]]
            assert running.process is not None and running.process.returncode is None, running.lines
            child = await self._start(container, container["readinessProbe"]["exec"]["command"])
            assert child.process is not None
            if await child.process.wait() == 0:
                return
            await world.sleep(0.2)
        raise AssertionError(f"{self.name} is not ready: {self.children}")

    async def stop(self) -> None:
        for child in self.children.values():
            await child.stop()

    def _containers(self) -> list[dict[str, Any]]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    async def _start(self, container: Mapping[str, Any], command: list[str] | None = None) -> Child:
        variables = {each["name"]: self.here(self._value(each)) for each in container.get("env", ())}
        words = command or [*container.get("command", ["heliograph"]), *container.get("args", ())]
        words = [self.here(_expanded(word, variables)) for word in words]
        argv = [*_PROGRAMS.get(words[0], words[:1]), *words[1:]]
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        child = Child(f"{self.name}/{container['name']}", argv, {**variables, "PATH": path}, self._kubelet.directory,
                      World(), lambda line: None)  # fmt: skip
        await child.start()
        return child

    def _value(self, variable: Mapping[str, Any]) -> str:
        if "value" in variable:
            return str(variable["value"])
        path = variable["valueFrom"]["fieldRef"]["fieldPath"]
        return {"metadata.name": self.name, "spec.nodeName": self.node}[path]


def _bare(volume: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in volume.items() if name in ("hostPath", "persistentVolumeClaim")}


def _expanded(word: str, variables: Mapping[str, str]) -> str:
    """Return a word of a command with its variables, as kubelet expands them."""
    return re.sub(r"\$\((\w+)\)", lambda found: variables.get(found[1], found[0]), word)
