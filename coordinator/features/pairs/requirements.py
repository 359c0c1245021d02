"""What a pair training job needs of its node: a version that trains pairs, and the data sets. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from heliograph.bus.contract.resources import DatasetUse, PairTrainingJob
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.packages import missing_packages


def missing(job: PairTrainingJob, view: View) -> Iterator[str]:
    """Yield what a job needs and does not have, a sentence each."""
    spec = job.spec
    yield from missing_packages(job, view)
    node = view.edges.get(spec.node_name)
    if node is None or node.report is None:
        yield f"node {spec.node_name} {'is unknown' if node is None else 'has not reported yet'}"
        return
    for name in dict.fromkeys(spec.datasets.values()):
        if node.dataset(name) is None:
            why = node.fault(name)
            yield f"data set {name}: {why}" if why else (
                f"data set {name} is not on node {spec.node_name}; 'heliograph datasets push {name} FILE --edge "
                f"{spec.node_name}' brings it there"
            )


def uses(job: PairTrainingJob, view: View) -> dict[str, DatasetUse]:
    """Return the versions of the job's data sets that its node has now, by what they are for."""
    node = view.edges[job.spec.node_name]
    found = {}
    for purpose, name in job.spec.datasets.items():
        if (index := node.dataset(name)) is not None:
            found[purpose] = DatasetUse(name=name, edge=node.name, version=index.version or index.digest,
                                        samples=index.samples)  # fmt: skip
    return found
