"""What is stored of a run's learning jobs, read from the cloud's buckets and from the nodes' journals as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from heliograph.bus.contract import buckets
from heliograph.bus.contract.event import parse
from heliograph.bus.contract.payloads import Desired
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import (
    LEARNING_ENDED,
    IncrementalLearningJob,
    LabelQueue,
    LoopState,
    Resource,
)
from heliograph.core.names import CLOUD
from heliograph.edge_agent.journal_writer import DOCUMENT
from heliograph.edge_agent.loop_store import StoredLoop
from heliograph.incremental.tasks import worker_of
from heliograph.labelling.task_state import TaskState
from heliograph.simulations.faults.learning_invariants import LoopEvidence
from heliograph.simulations.fuzz.learning_plan import LearningJob
from heliograph.simulations.virtual.virtual_cluster import VirtualCluster

R = TypeVar("R", bound=Resource)
_DOCUMENTS = "SELECT key, value FROM meta WHERE key >= ? AND key < ? ORDER BY key"
_ID_BYTES = 32


def stored(cluster: VirtualCluster, kind: type[R], name: str) -> R | None:
    """Return a resource as it is in its bucket."""
    entry = cluster.hub.buckets.get(buckets.RESOURCES, {}).get(f"{kind.plural}.{name}")
    if entry is None:
        return None
    found = parse_resource(parse(entry.value, entry.key), entry.key)
    assert isinstance(found, kind)
    return found


def loops(cluster: VirtualCluster, planned: LearningJob) -> Iterator[LoopEvidence]:
    """Yield the loops of a job that exists: that of the cloud, or those of the edges that have begun one."""
    job, queue = stored(cluster, IncrementalLearningJob, planned.name), stored(cluster, LabelQueue, planned.name)
    if job is None or queue is None:
        return
    uid, learns = job.metadata.uid, job.status.phase not in LEARNING_ENDED
    if planned.location == "cloud":
        state, tasks = job.status.loop, _entries(cluster, buckets.LABELS, f"{queue.metadata.uid}.")
        shards = _shards(_entries(cluster, buckets.LEARNING, f"{uid}."), state)
        yield LoopEvidence(CLOUD, uid, learns, state, *_labels(tasks), shards, job.status.rounds)
        return
    for edge in planned.edges:
        loop = _edge_loop(cluster, edge, planned.name, uid)
        tasks = _documents(cluster, edge, f"{buckets.LABELS}/{queue.metadata.uid}.")
        goes_on = learns and not (planned.rounds and loop.state.round >= planned.rounds)
        shards = _shards(_documents(cluster, edge, f"loop-ids/{uid}/"), loop.state)
        yield LoopEvidence(edge, uid, goes_on, loop.state, *_labels(tasks), shards, loop.rounds,
                           loop.own.get(planned.name))  # fmt: skip


def loop_workers(cluster: VirtualCluster, node: str, desired: Desired) -> list[str]:
    """Return the names of the workers that a node's own loops need beside the desired document's tasks."""
    found = []
    for name, wanted in desired.loops.items():
        if wanted.stopped:
            continue
        state = _edge_loop(cluster, node, name, wanted.uid).state
        for learned in wanted.spec.models if state.round else ():
            candidate = state.candidates.get(learned.model.name)
            found.append(worker_of(name, wanted.spec, learned, candidate.attempt if candidate is not None else 1))
    return found


def _edge_loop(cluster: VirtualCluster, edge: str, name: str, uid: str) -> StoredLoop:
    """Return the loop of a job of that uid on an edge; a new one where it has begun none."""
    content = dict(_documents(cluster, edge, f"loop/{name}")).get(f"loop/{name}")
    loop = StoredLoop.from_json(content) if content else StoredLoop(uid=uid)
    return loop if loop.uid == uid else StoredLoop(uid=uid)


def _entries(cluster: VirtualCluster, bucket: str, prefix: str) -> Iterator[tuple[str, bytes]]:
    for key, entry in sorted(cluster.hub.buckets.get(bucket, {}).items()):
        if key.startswith(prefix):
            yield key, entry.value


def _documents(cluster: VirtualCluster, edge: str, prefix: str) -> Iterator[tuple[str, bytes]]:
    journal = cluster.journal(edge)
    if journal is None:
        return
    first = f"{DOCUMENT}{prefix}"
    for key, value in journal.execute(_DOCUMENTS, (first, f"{first}\U0010ffff")).fetchall():
        yield key.removeprefix(DOCUMENT), value


def _labels(tasks: Iterable[tuple[str, bytes]]) -> tuple[set[str], int]:
    """Return the samples with a label, and the number of those that wait for one."""
    states = [TaskState.from_json(value) for _, value in tasks if value.startswith(b"{")]  # others are positions
    return {each.task.task for each in states if each.phase == "labelled"}, sum(
        each.phase == "open" for each in states
    )  # fmt: skip


def _shards(ids: Iterable[tuple[str, bytes]], state: LoopState) -> dict[int, list[str]]:
    """Return the ids of the samples of each shard that the loop has named."""
    found = {}
    for key, value in ids:
        number = int(key.replace("/", ".").rpartition(".")[2])
        if number < state.next_shard:
            text = value.hex()
            found[number] = [text[at : at + 2 * _ID_BYTES] for at in range(0, len(text), 2 * _ID_BYTES)]
    return found
