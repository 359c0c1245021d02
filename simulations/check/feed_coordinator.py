"""The coordinator under test: requests, reports, closed rounds, evaluations, statistics and the edges' presence in;
desired documents and status out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from heliograph.bus.contract import registry, topics
from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import Resource
from heliograph.bus.transport import KeyValueEntry
from heliograph.coordinator.coordinator import Coordinator, CoordinatorConfig
from heliograph.coordinator.edges.presence import PREFIX
from heliograph.core.errors import Refused
from heliograph.simulations.check.compare import Said
from heliograph.simulations.check.fed_stage import CLOUD_URL, Action, Stage
from heliograph.simulations.check.findings import Run, compared, nothing_to_feed, recorded_of
from heliograph.simulations.check.material import Heard, Material
from heliograph.simulations.check.normal import concerns
from heliograph.simulations.check.recorded_presence import changes
from heliograph.simulations.virtual.loop import Process, VirtualLoop
from heliograph.simulations.virtual.loop import run as run_virtually

INPUTS = tuple(
    each for each in registry.declared().topics
    if "coordinator" in each.subscribers and (each.delivery == "request" or each.stream is not None)
)  # fmt: skip
OUTPUTS = tuple(each for each in registry.declared().topics if each.publishers == ("coordinator",))
TAKES_OVER = 1.0
"""Seconds before its first word at which another coordinator is begun: it has to read what there is."""
_PLURALS = {"train": "jobs", "aggregate": "jobs", "evaluate": "jobs", "infer": "services", "big-model": "services"}


def check_coordinator(material: Material, job: str = "") -> Run:
    """Raises Refused where the trace holds nothing that a coordinator takes."""
    inputs = material.of(*INPUTS)
    recorded = [each for each in material.of(*OUTPUTS) if concerns(each.topic, dict(each.params), job)]
    if not inputs:
        raise nothing_to_feed(material, "coordinator", ", ".join(each.pattern for each in INPUTS))
    if job and not any(each.topic is topics.STATUS for each in recorded):
        raise Refused("unknown-job", topic=str(material.path), field="job", expected="a job or service of the trace",
                      got=job)  # fmt: skip
    said, ended = run_virtually(lambda loop: _play(loop, material, inputs, job))
    found = compared("coordinator", recorded_of(recorded, job), said, material.end)
    found.inputs = found.fed = len(inputs)
    found.missing += [*_never_created(material), *ended]
    return found


async def _play(
    loop: VirtualLoop, material: Material, inputs: list[Heard], job: str
) -> tuple[list[Said], list[str]]:
    stage = Stage(loop, job=job)
    stage.write_down(*(each.filter() for each in OUTPUTS))
    uids = _Uids(material)
    _remember(stage, material)
    running: list[Process] = []

    def start() -> None:
        process = Process("coordinator")
        running.append(process)
        world = replace(stage.worlds.world(process), uid=uids.next)
        coordinator = process.context.run(
            Coordinator, CoordinatorConfig(CLOUD_URL, CLOUD_URL, CLOUD_URL), world, lambda line: None
        )
        stage.run(process, coordinator.run())

    def restart() -> None:
        loop.kill(running.pop())
        stage.hub.buckets.get("coordinator", {}).pop("leader", None)  # long enough has passed
        start()

    actions = [Action(0.0, -1, start)]
    actions += [Action(at, number, restart) for at, number in _takeovers(material)]
    for edge in material.edges():
        actions += [
            Action(each.at, -1, partial(_connect, stage, edge, each.online))
            for each in changes(material, edge)
        ]
    for each in inputs:
        feed = _closed if each.topic is topics.AGGREGATION else Stage.publish
        number = each.number if not each.retained else each.number - len(material.messages) - 1  # before it starts
        actions.append(Action(each.at, number, partial(feed, stage, each)))
    await stage.play(actions, material.end)
    return stage.outcome(lambda address: concerns(*_declared(address), job))


def _connect(stage: Stage, edge: str, online: bool) -> None:
    """An agent's connection comes, or goes."""
    name = f"{PREFIX}{edge}"
    if online and name not in stage.hub.clients:
        stage.hub.joined(name)
    elif not online and name in stage.hub.clients:
        stage.hub.left(name)


class _Uids:
    """The uid of each resource that was created, by its key, one after the other."""

    def __init__(self, material: Material) -> None:
        self._left: dict[str, list[str]] = {}
        for key, uid in _resources(material):
            uids = self._left.setdefault(key, [])
            if uid and uid not in uids:
                uids.append(uid)

    def next(self, key: str) -> str:
        left = self._left.get(key, [])
        return left.pop(0) if left else ""


def _resources(material: Material) -> Iterator[tuple[str, str]]:
    """Key and uid of every resource, where they are told: by its status, else by the tasks of its job."""
    for each in material.of(topics.STATUS):
        if isinstance(each.data, dict) and not each.retained:
            metadata = each.data.get("metadata") or {}
            yield f"{each.params['resource']}.{each.params['name']}", str(metadata.get("uid", ""))
    for each in material.of(topics.TASK):
        for task in (each.data or {}).get("tasks", []):
            yield f"{_PLURALS.get(task.get('role'), '')}.{task.get('job')}", str(task.get("job_uid", ""))


def _closed(stage: Stage, heard: Heard) -> None:
    """Its record is there before it is told."""
    closed = heard.data
    bucket = stage.hub.buckets.setdefault("rounds", {})
    key = f"{closed['job_uid']}.{closed['round']}"
    if key not in bucket:
        revision = stage.hub.revisions["rounds"] = stage.hub.revisions.get("rounds", 0) + 1
        record = topics.AGGREGATION.validate(closed, heard.address).model_dump_json().encode()
        bucket[key] = KeyValueEntry(key, record, revision)
    stage.publish(heard)


def _remember(stage: Stage, material: Material) -> None:
    """The resources that were there before the recording began, as their retained status tells of them."""
    for each in material.of(topics.STATUS):
        if not each.retained or not isinstance(each.data, dict):
            continue
        resource = _whole(each.data, each.address, material)
        if resource is None:
            continue
        key = f"{resource.plural}.{resource.name}"
        revision = stage.hub.revisions["resources"] = stage.hub.revisions.get("resources", 0) + 1
        body = resource.model_dump_json(by_alias=True, exclude_none=True).encode()
        stage.hub.buckets.setdefault("resources", {})[key] = KeyValueEntry(key, body, revision)
    for digest, data in material.weights.items():
        stage.hub.blobs.setdefault(MODELS, {})[digest] = data


def _whole(document: dict[str, Any], address: str, material: Material) -> Resource | None:
    """The resource that a status shows; None where what is not shown of it is not in the trace either."""
    tree = json.loads(json.dumps(document))
    for weights in _weights(tree):
        if "bucket" not in weights:
            data = material.weights.get(weights["digest"])
            if data is None:
                return None
            weights["bucket"] = MODELS
    try:
        return parse_resource(tree, address)
    except Refused:
        return None


def _weights(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if "digest" in tree and "size" in tree:
            yield tree
        for value in tree.values():
            yield from _weights(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _weights(value)


def _takeovers(material: Material) -> list[tuple[float, int]]:
    """When another coordinator than before spoke for the first time."""
    found: list[tuple[float, int]] = []
    source, last = "", 0.0
    for each in material.of(*OUTPUTS):
        if not each.source or each.retained:
            continue
        if source and each.source != source:
            found.append((max(last, each.at - TAKES_OVER), each.number))
        source, last = each.source, each.at
    return found


def _never_created(material: Material) -> list[str]:
    """Jobs and services that were there already, and can not be put back."""
    asked = {(each.params["resource"], _name_of(each.data)) for each in material.of(topics.REQUEST)}
    known = {(each.params["resource"], each.params["name"]) for each in material.of(topics.STATUS)
             if each.retained and isinstance(each.data, dict)
             and _whole(each.data, each.address, material) is not None}  # fmt: skip
    told = {key.partition(".")[::2] for key, _ in _resources(material)}
    wanted = {*registry.declared().verbs} - {"edges", "datasets", "algorithms"}
    return [
        f"{plural}/{name} was created before the recording began: begin it earlier, or record from the MQTT door, "
        "whose retained status tells of it"
        for plural, name in sorted(told - asked - known) if plural in wanted
    ]  # fmt: skip


def _name_of(document: Any) -> str:
    metadata = document.get("metadata") if isinstance(document, dict) else None
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def _declared(address: str) -> tuple[Any, dict[str, str]]:
    topic, params = registry.lookup(address)
    return topic, dict(params)

