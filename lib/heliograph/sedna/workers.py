"""A worker of Sedna, a pod's template or the script of older documents, as what our workers run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heliograph.core.errors import Refused
from heliograph.core.names import CLOUD
from heliograph.sedna.fields import Fields, as_label
from heliograph.sedna.settings import NODE, Settings
from heliograph.sedna.values import memory, typed

_IMAGE = "a worker runs a script on its node, or a package, and no image; see docs/scripts.md and docs/packages.md"
_OF_IMAGE = "it is about the container"
_SECRET = "no document holds a secret: give it to the node, as a file that its site policy lets workers read"


@dataclass
class Worker:
    """What a worker of Sedna runs.

    Attributes:
        node: the node that the document names, at ``node_path``; empty for none.
        dataset: the data set, where the script's settings name it.
        script, arguments: the script and its arguments; no script where the image has it.
        parameters: by key.
        path: of the part that should name a script.
    """

    path: str
    node: str = ""
    node_path: str = ""
    dataset: str = ""
    script: str = ""
    arguments: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, Any] = field(default_factory=dict)
    directory: str = ""
    framework: dict[str, str] = field(default_factory=dict)

    def code(self, prefix: str, setting: str, settings: Settings) -> dict[str, Any]:
        """Return script, parameters and resources as a worker of ours has them.

        Args:
            prefix: ``trainScript`` or ``script``, with which our fields begin.
            setting: names the script where the document has none. Raises Refused where that is missing, too.
        """
        script = self.script or settings.get(setting)
        if not script:
            raise Refused("invalid", field=self.path, expected="a script, as args: [train.py]", got="an image alone",
                          hint=f"Name the script below the node's code roots: --set {setting}=FILE")  # fmt: skip
        found: dict[str, Any] = {f"{prefix}BootFile": script}
        if self.directory:
            found[f"{prefix}Dir"] = self.directory
        if self.arguments:
            found[f"{prefix}Arguments"] = self.arguments
        found |= self.framework
        if self.parameters:
            found["parameters"] = [{"key": key, "value": value} for key, value in self.parameters.items()]
        if self.resources:
            found["resources"] = self.resources
        return found


def worker_of(given: Fields) -> Worker:
    """Return what a worker runs: a ``template``, or ``workerSpec`` as Sedna's first version has it."""
    found = Worker(given.at("template"), given.text("nodeName"), given.at("nodeName"))
    if given.tree.get("workerSpec") is not None:
        found.path = given.at("workerSpec")
        _read_script(given.part("workerSpec"), found)
    if given.tree.get("template") is not None:
        _read_template(given.part("template"), found)
    return found


def note_unused(given: Fields, worker: Worker, why: str, **values: object) -> None:
    """Report what a worker's part says, by the fields' names there, and our worker of that kind has no place for."""
    for name, value in values.items():
        if value:
            given.note_dropped(f"{worker.path}.{name}", why)


def edge_of(given: Fields, worker: Worker, settings: Settings) -> str:
    """Return the edge that a worker's node is; empty where it names none."""
    return settings.node(worker.node) or as_label(worker.node) if worker.node else ""


def cloud_of(given: Fields, worker: Worker, settings: Settings) -> str:
    """Return the node of a worker in the cloud: ``cloud``, whatever Sedna calls it, unless a setting names one."""
    node = settings.node(worker.node) if worker.node else ""
    if worker.node and not node and worker.node != CLOUD:
        given.note_changed(
            worker.node_path,
            f"{CLOUD} in place of {worker.node}: so is the cloud's agent called; an edge is named by --set "
            f"{NODE}{worker.node}=EDGE",
        )
    return node or CLOUD


def _read_script(given: Fields, found: Worker) -> None:
    found.script, found.directory = given.text("scriptBootFile"), given.text("scriptDir")
    for name in ("frameworkType", "frameworkVersion"):
        if (value := given.take(name)) is not None:
            found.framework[name] = str(value)
    found.dataset = given.reference("dataset")
    for parameter in given.parts("parameters"):
        found.parameters[parameter.text("key")] = typed(parameter.take("value"))
        parameter.drop_rest()
    given.drop_rest()


def _read_template(given: Fields, found: Worker) -> None:
    pod = given.part("spec")
    given.drop_rest("a worker has no metadata of its own")
    if (node := pod.text("nodeName")) and not found.node:
        found.node, found.node_path = node, pod.at("nodeName")
    pod.drop("edges are named, or offer the data set: give nodeName, or --set nodeName.NODE=EDGE", "nodeSelector",
             "affinity")  # fmt: skip
    pod.drop(_SECRET, "imagePullSecrets", "serviceAccountName")
    pod.drop("workers read below the agent's code and data roots (--code, --data)", "volumes")
    containers = pod.parts("containers")
    for extra in containers[1:]:
        extra.drop_rest("a worker is one process")
    if containers:
        found.path = containers[0].path
        _read_container(containers[0], found)
    pod.drop_rest("it is about the pod, and a worker is a process of the node's agent")


def _read_container(given: Fields, found: Worker) -> None:
    given.drop(_IMAGE, "image")
    words = [*given.words("command"), *given.words("args")]
    scripts = [number for number, word in enumerate(words) if word.endswith(".py")]
    if scripts:
        found.script, found.arguments = words[scripts[0]].lstrip("/"), words[scripts[0] + 1 :]
        if words[scripts[0]].startswith("/"):
            given.changed("args" if given.tree.get("args") else "command",
                          "a script's path begins at a code root of the agent (--code), not in an image")  # fmt: skip
    elif words:
        given.drop("it names no script of Python", "command", "args")
    for variable in given.parts("env"):
        _read_variable(variable, found)
    _read_resources(given.part("resources"), found)
    given.drop("workers read below the agent's code and data roots (--code, --data)", "volumeMounts", "workingDir")
    given.drop_rest(_OF_IMAGE)


def _read_variable(given: Fields, found: Worker) -> None:
    source = given.take("valueFrom")
    if source is not None:
        secret = isinstance(source, Mapping) and "secretKeyRef" in source
        given.drop(_SECRET if secret else "Kubernetes fills it in, and runs no worker of ours", "valueFrom")
        given.take("name")
    else:
        found.parameters[given.text("name")] = typed(given.take("value"))
    given.drop_rest()


def _read_resources(given: Fields, found: Worker) -> None:
    for name in ("requests", "limits"):
        part = given.part(name)
        if (amount := part.take("memory")) is not None:
            if "memory" in found.resources:
                part.drop("a worker reserves what it requests; the site policy bounds what it takes", "memory")
            elif (text := memory(amount)) is not None:
                found.resources["memory"] = text
            else:
                part.drop("memory is bytes as 512Mi, 4Gi or 2G", "memory")
        for gpu in ("nvidia.com/gpu", "amd.com/gpu"):
            if (count := part.number(gpu)) is not None:
                found.resources["gpus"] = count
        part.drop("a worker reserves memory and GPUs; the site policy bounds processors (cpu-percent)", "cpu")
        part.drop_rest()
    given.drop_rest()
