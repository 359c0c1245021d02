"""The watcher of a run in virtual time. It compares each acknowledgement with the disk at that moment, and checks each
reported generation and each end of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import Desired, Report
from heliograph.bus.contract.topics import ACK, REPORT, TASK, WORKER_ACK, Topic
from heliograph.bus.transport import Message
from heliograph.core.failures import DEFECT
from heliograph.core.names import CLOUD
from heliograph.edge_agent.devices.numbered import highest_of, key_of_numbers
from heliograph.edge_agent.journal_writer import DOCUMENT
from heliograph.edge_agent.producers import DEVICE, WORKER, key_of
from heliograph.simulations.faults.invariants import Violation
from heliograph.simulations.fuzz.learning_truth import loop_workers
from heliograph.simulations.virtual.virtual_cluster import VirtualCluster

PRODUCER = "SELECT sequence FROM producers WHERE producer = ? AND incarnation = ?"
NUMBERS = "SELECT value FROM meta WHERE key = ?"


class Watcher:
    """A watcher of a cluster's topics from its start; ``violations`` has those seen so far."""

    def __init__(self, cluster: VirtualCluster) -> None:
        self._cluster = cluster
        self._observed: dict[str, tuple[int, int]] = {}
        self.violations: list[Violation] = []
        cluster.hub.receivers.add(REPORT.filter(), "", self._reported)
        for edge in cluster.edges:
            for topic in (ACK, WORKER_ACK):
                cluster.node(edge).receivers.add(topic.filter(), "", self._at(edge))

    def observe_output(self, process: str, line: str) -> None:
        """Check a line printed by a process."""
        if line.startswith(("ended:", "failed:")):
            self.violations.append(Violation("nothing_ended_by_itself", f"{process} {line}"))
        elif DEFECT in line:
            self.violations.append(Violation("no_message_meets_a_defect", f"{process}: {line}"))

    def observe_exception(self, context: dict[str, object]) -> None:
        """Note an unhandled exception of the event loop."""
        text = f"{context.get('message')}: {context.get('exception')!r}"
        self.violations.append(Violation("nothing_ended_by_itself", text))

    def _at(self, edge: str) -> Callable[[Message], None]:
        return lambda message: self._acknowledged(edge, message)

    def _acknowledged(self, edge: str, message: Message) -> None:
        """Check that an acknowledged event is on the agent's disk."""
        ack = ACK.validate(decode(message.body, message.topic).data, message.topic)
        if not ack.sequence:
            return
        of_worker = WORKER_ACK.match(message.topic)
        name = (of_worker or ACK.match(message.topic) or {})["worker" if of_worker else "producer"]
        producer = key_of(WORKER if of_worker else DEVICE, name)
        journal = self._cluster.journal(edge)
        if journal is None:
            kept = 0
        elif of_worker:
            row = journal.execute(PRODUCER, (producer, ack.incarnation)).fetchone()
            kept = row[0] if row is not None else 0
        else:
            row = journal.execute(NUMBERS, (f"{DOCUMENT}{key_of_numbers(name)}",)).fetchone()
            kept = highest_of(row[0], ack.incarnation) if row is not None else 0
        if kept < ack.sequence:
            self.violations.append(Violation(
                "acknowledged_is_on_disk",
                f"{edge}: event {ack.sequence} of {producer} was acknowledged while its disk had {kept}",
            ))  # fmt: skip

    def _reported(self, message: Message) -> None:
        """Check that no agent goes back to an older generation. A killed agent may, to the one on its disk."""
        if (REPORT.match(message.topic) or {}).get("edge") not in (CLOUD, *self._cluster.edges):
            return  # a hostile edge reports what it likes
        event = decode(message.body, message.topic)
        report: Report = REPORT.validate(event.data, message.topic)
        before = self._observed.get(event.source, (0, 0))
        now = self._observed[event.source] = report.observed.order
        if now < before:
            self.violations.append(Violation(
                "generations_never_go_back", f"{event.source}: from generation {before} back to {now}"
            ))  # fmt: skip


def ends_as_desired(cluster: VirtualCluster) -> Iterator[Violation]:
    """Check that each agent has reached its stream's newest document and runs exactly the workers in it."""
    for node in (CLOUD, *cluster.edges):
        desired, report = newest_desired(cluster, node), newest_report(cluster, node)
        if desired is None or report is None:
            continue
        if report.observed.order != desired.generation.order:
            yield Violation(
                "agents_reach_the_newest_generation",
                f"{node}: expected generation {desired.generation.order}, got {report.observed.order}",
            )
        wanted = wanted_workers(cluster, node, desired)
        runs = workers_of(cluster, node)
        if wanted != runs:
            yield Violation("agents_run_what_is_desired", f"{node}: expected the workers {wanted}, got {runs}")


def wanted_workers(cluster: VirtualCluster, node: str, desired: Desired) -> list[str]:
    """Return the names of the workers that a node shall run: those of its document, and those of its own loops."""
    return sorted([*(task.worker for task in desired.tasks), *loop_workers(cluster, node, desired)])


def newest_desired(cluster: VirtualCluster, node: str) -> Desired | None:
    """Return the newest desired document in a node's stream."""
    message = _last(cluster, TASK, edge=node)
    return TASK.validate(decode(message.body, message.topic).data, message.topic) if message is not None else None


def newest_report(cluster: VirtualCluster, node: str) -> Report | None:
    message = _last(cluster, REPORT, edge=node)
    return REPORT.validate(decode(message.body, message.topic).data, message.topic) if message is not None else None


def workers_of(cluster: VirtualCluster, node: str) -> list[str]:
    """Return the names of the task workers running on a node, sorted."""
    names = [each.process.name.rpartition("/")[2] for each in cluster.workers(node)]
    return sorted(name for name in names if name != "offers")


def _last(cluster: VirtualCluster, topic: Topic[Any], **params: str) -> Message | None:
    kept = cluster.hub.streams.get(topic.stream_name)
    return kept.last(topic.at(**params)) if kept is not None else None
