"""The check of the coordinator: its inputs are requests, reports, closed rounds, evaluations, samples, candidates,
verdicts, statistics and the edges' presence; its outputs are desired documents, status, label tasks and labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from heliograph.bus.contract import close_record, registry, topics
from heliograph.bus.contract.buckets import COORDINATOR, MODELS, RESOURCES, ROUNDS
from heliograph.bus.contract.permissions import agent_login
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import Resource
from heliograph.coordinator.coordinator import Coordinator, CoordinatorConfig
from heliograph.core.errors import Refused
from heliograph.labelling.queue_verbs import lease_key
from heliograph.simulations.check.comparable import concerns
from heliograph.simulations.check.compare import TimedMessage
from heliograph.simulations.check.findings import ReplayRun, compare_messages, nothing_to_feed, recorded_of
from heliograph.simulations.check.loaded_trace import LoadedTrace, RecordedMessage
from heliograph.simulations.check.loop_rules import broken_rules
from heliograph.simulations.check.recorded_presence import presence_changes
from heliograph.simulations.check.replay_stage import CLOUD_URL, Action, ReplayStage
from heliograph.simulations.virtual.loop import Process, VirtualLoop
from heliograph.simulations.virtual.loop import run as run_virtually

INPUTS = tuple(
    each for each in registry.declared().topics
    if "coordinator" in each.subscribers and (each.delivery == "request" or each.stream is not None)
)  # fmt: skip
_LATER = (topics.JOB_ENDED,)
"""Outputs since 0.2: a trace without any of their messages says nothing about them."""
OUTPUTS = tuple(
    each for each in registry.declared().topics
    if each is not topics.AUDIT  # its chain hashes ids, which differ in each run
    and (each.publishers == ("coordinator",) or ("coordinator" in each.publishers and each.delivery == "event"))
)  # fmt: skip
"""Of a topic that others publish too, the messages of a coordinator are outputs, and the others inputs."""
TAKEOVER_SECONDS = 1.0
"""Seconds before its first message at which another coordinator is started; it first has to read the state."""
_PLURALS = {"train": "jobs", "aggregate": "jobs", "evaluate": "jobs", "infer": "services", "big-model": "services"}


def check_coordinator(trace: LoadedTrace, job: str = "") -> ReplayRun:
    """Check the coordinator. Raises Refused if the trace has no input for it."""
    inputs = [each for each in trace.of(*INPUTS) if not _is_output(each)]
    recorded = [each for each in _outputs(trace) if concerns(each.topic, dict(each.params), job)]
    if not inputs:
        raise nothing_to_feed(trace, "coordinator", ", ".join(each.pattern for each in INPUTS))
    if job and not any(each.topic is topics.STATUS for each in recorded):
        raise Refused("unknown-job", topic=str(trace.path), field="job", expected="a job or service of the trace",
                      got=job)  # fmt: skip
    published, failures = run_virtually(lambda loop: _play(loop, trace, inputs, job))
    found = compare_messages("coordinator", recorded_of(recorded, job), published, trace.end)
    found.differences += broken_rules(trace, job)
    found.inputs = found.fed = len(inputs)
    found.missing += [*_never_created(trace), *failures]
    return found


async def _play(
    loop: VirtualLoop, trace: LoadedTrace, inputs: list[RecordedMessage], job: str
) -> tuple[list[TimedMessage], list[str]]:
    stage = ReplayStage(loop, job=job)
    stage.record(*(each.filter() for each in OUTPUTS if each not in _LATER or trace.of(each)))
    uids = _Uids(trace)
    _restore_resources(stage, trace)
    running: list[Process] = []

    def start() -> None:
        process = Process("coordinator")
        running.append(process)
        world = replace(stage.worlds.world(process), uid=uids.next)
        coordinator = process.context.run(
            Coordinator, CoordinatorConfig(CLOUD_URL, CLOUD_URL, CLOUD_URL), world, stage.observe_output
        )
        stage.run(process, coordinator.run())

    def restart() -> None:
        loop.kill(running.pop())
        stage.hub.buckets.get(COORDINATOR, {}).pop("leader", None)  # the lease has expired
        start()

    actions = [Action(0.0, -1, start)]
    actions += [Action(at, number, restart) for at, number in _takeovers(trace)]
    for edge in trace.edges():
        actions += [
            Action(each.at, -1, partial(_connect, stage, edge, each.online))
            for each in presence_changes(trace, edge)
        ]
    for each in inputs:
        feed = _publish_close if each.topic is topics.AGGREGATION else ReplayStage.publish
        number = each.number if not each.retained else each.number - len(trace.messages) - 1  # before the start
        actions.append(Action(each.at, number, partial(feed, stage, each)))
    await stage.play(actions, trace.end)
    return stage.outcome(lambda address: concerns(*_declared(address), job))


def _connect(stage: ReplayStage, edge: str, online: bool) -> None:
    """Connect or disconnect an agent."""
    name = agent_login(edge)
    if online and name not in stage.hub.clients:
        stage.hub.joined(name)
    elif not online and name in stage.hub.clients:
        stage.hub.left(name)


def _outputs(trace: LoadedTrace) -> list[RecordedMessage]:
    return [each for each in trace.of(*OUTPUTS) if _is_output(each)]


def _is_output(message: RecordedMessage) -> bool:
    """Return whether a coordinator has published a message."""
    publishers = message.topic.publishers
    return publishers == ("coordinator",) or ("coordinator" in publishers and "/coordinator/" in message.source)


class _Uids:
    """The recorded uids of each created resource, and the leases of each task, by key, in their order."""

    def __init__(self, trace: LoadedTrace) -> None:
        self._left: dict[str, list[str]] = {}
        for key, uid in (*_resources(trace), *_leases(trace)):
            uids = self._left.setdefault(key, [])
            if uid and uid not in uids:
                uids.append(uid)

    def next(self, key: str) -> str:
        left = self._left.get(key, [])
        return left.pop(0) if left else ""


def _resources(trace: LoadedTrace) -> Iterator[tuple[str, str]]:
    """Return key and uid of every resource, from its status and from its job's tasks."""
    for each in trace.of(topics.STATUS):
        if isinstance(each.data, dict) and not each.retained:
            metadata = each.data.get("metadata") or {}
            yield f"{each.params['resource']}.{each.params['name']}", str(metadata.get("uid", ""))
    for each in trace.of(topics.TASK):
        for task in (each.data or {}).get("tasks", []):
            yield f"{_PLURALS.get(task.get('role'), '')}.{task.get('job')}", str(task.get("job_uid", ""))


def _leases(trace: LoadedTrace) -> Iterator[tuple[str, str]]:
    """Return key and id of every lease under which somebody has labelled a task. A lease is in no message that is
    recorded but in the labeller's request; whose it is the label says."""
    answers: dict[tuple[str, str], list[str]] = {}
    for each in trace.of(topics.REQUEST, resource="labels", verb="submit"):
        if isinstance(each.data, dict) and each.data.get("lease"):
            answered = answers.setdefault((str(each.data.get("name")), str(each.data.get("task"))), [])
            answered += [str(each.data["lease"])] if each.data["lease"] not in answered else []
    for each in trace.of(topics.LABEL):  # in the order of the stream: a recorder may take a request after its label
        label = each.data if isinstance(each.data, dict) else {}
        if left := answers.get((each.params["job"], str(label.get("task")))):
            yield lease_key(each.params["job"], str(label["task"]), str(label.get("labeller"))), left.pop(0)


def _publish_close(stage: ReplayStage, message: RecordedMessage) -> None:
    """Publish a round's close, after storing its close record."""
    closed = topics.AGGREGATION.validate(message.data, message.address)
    key = close_record.key_of(closed.job_uid, closed.round)
    if key not in stage.hub.buckets.get(ROUNDS, {}):
        stage.store(ROUNDS, key, close_record.dump(closed))
    stage.publish(message)


def _restore_resources(stage: ReplayStage, trace: LoadedTrace) -> None:
    """Store the resources that existed before the recording, from their retained status."""
    for each in trace.of(topics.STATUS):
        if not each.retained or not isinstance(each.data, dict):
            continue
        resource = _restored(each.data, each.address, trace)
        if resource is None:
            continue
        body = resource.model_dump_json(by_alias=True, exclude_none=True).encode()
        stage.store(RESOURCES, f"{resource.plural}.{resource.name}", body)
    for digest, data in trace.weights.items():
        stage.hub.blobs.setdefault(MODELS, {})[digest] = data


def _restored(document: dict[str, Any], address: str, trace: LoadedTrace) -> Resource | None:
    """Return the resource of a status; None if its weights are not in the trace."""
    tree = json.loads(json.dumps(document))
    for weights in _weights(tree):
        if "bucket" not in weights:
            data = trace.weights.get(weights["digest"])
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


def _takeovers(trace: LoadedTrace) -> list[tuple[float, int]]:
    """Return the times and numbers of the first messages of each further coordinator."""
    found: list[tuple[float, int]] = []
    source, last = "", 0.0
    for each in _outputs(trace):
        if not each.source or each.retained:
            continue
        if source and each.source != source:
            found.append((max(last, each.at - TAKEOVER_SECONDS), each.number))
        source, last = each.source, each.at
    return found


def _never_created(trace: LoadedTrace) -> list[str]:
    """Describe jobs and services that existed before the recording and cannot be restored."""
    created = {(each.params["resource"], _name_of(each.data)) for each in trace.of(topics.REQUEST)}
    known = {(each.params["resource"], each.params["name"]) for each in trace.of(topics.STATUS)
             if each.retained and isinstance(each.data, dict)
             and _restored(each.data, each.address, trace) is not None}  # fmt: skip
    existing = {key.partition(".")[::2] for key, _ in _resources(trace)}
    wanted = {*registry.declared().verbs} - {"edges", "datasets", "algorithms"}
    return [
        f"{plural}/{name} was created before the recording began: start recording earlier, or record from the MQTT "
        "door, which has its retained status"
        for plural, name in sorted(existing - created - known) if plural in wanted
    ]  # fmt: skip


def _name_of(document: Any) -> str:
    metadata = document.get("metadata") if isinstance(document, dict) else None
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def _declared(address: str) -> tuple[Any, dict[str, str]]:
    topic, params = registry.lookup(address)
    return topic, dict(params)

