"""The check whether a run has settled."""

from __future__ import annotations

from collections.abc import Iterator

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.resources import ENDED
from heliograph.bus.contract.topics import STATUS
from heliograph.core.names import CLOUD
from heliograph.simulations.fuzz.devices import Devices
from heliograph.simulations.fuzz.learning_record import LearningRecord
from heliograph.simulations.fuzz.learning_settling import unfinished_learning
from heliograph.simulations.fuzz.plan import Plan
from heliograph.simulations.fuzz.watcher import newest_desired, newest_report, wanted_workers, workers_of
from heliograph.simulations.virtual.virtual_cluster import COORDINATOR, VirtualCluster


def unfinished(
    cluster: VirtualCluster, plan: Plan, devices: Devices, learning: LearningRecord
) -> Iterator[str]:
    """Describe everything that a run still waits for; nothing once it has settled."""
    for name in (COORDINATOR, CLOUD, *cluster.edges):
        if cluster.processes[name].dead:
            yield f"{name} does not run"
    for job in plan.jobs:
        found = cluster.hub.retained(STATUS.at(resource="jobs", name=job.name))
        status = decode(found[0].body, found[0].topic).data["status"] if found else {}
        if status.get("phase") not in ENDED:
            messages = "; ".join(each["message"] for each in status.get("conditions", ()) if each.get("message"))
            yield (f"job {job.name}, {status.get('phase', 'unknown')}, round {status.get('round', 0)}, "
                   f"{status.get('step')}; {messages}")  # fmt: skip
    yield from unfinished_learning(cluster, plan, learning)
    for edge, lives in devices.lives.items():
        if lives and lives[-1].acknowledged < lives[-1].sent:
            yield f"{edge}: of {lives[-1].sent} readings {lives[-1].acknowledged} are acknowledged"
    for node in (CLOUD, *cluster.edges):
        journal = cluster.journal(node)
        if journal is None:
            yield f"{node}: a journal"
        elif left := journal.execute("SELECT count(*) FROM events").fetchone()[0]:
            yield f"{node}: {left} events in its journal"
        desired, report = newest_desired(cluster, node), newest_report(cluster, node)
        if report is None:
            yield f"{node}: a first report"
        elif desired is not None:
            if report.observed != desired.generation:
                yield f"{node}: expected generation {desired.generation.order}, got {report.observed.order}"
            wanted = wanted_workers(cluster, node, desired)
            if wanted != (runs := workers_of(cluster, node)):
                yield f"{node}: expected the workers {wanted}, got {runs}"
