"""Edges, data sets and algorithms as agents report them: pure translations into resources."""

from __future__ import annotations

from collections.abc import Iterator

from heliograph.bus.payloads import Report
from heliograph.bus.resources import Algorithm, Condition, Dataset, Edge, Metadata, condition
from heliograph.coordinator.damping import STEADY, WINDOW
from heliograph.coordinator.store import ResourceStore


def edge_of(edge: Edge, report: Report | None, online: bool, flaps: int, now: str) -> Edge:
    """The edge's resource after a report or a change of presence; ``flaps``: how often it came back lately, where that
    is too often."""
    status = edge.status
    changes: dict[str, object] = {"online": online, "conditions": _steadiness(status.conditions, flaps, now)}
    if online != status.online or not status.since:
        changes["since"] = now
    if report is not None:
        changes |= {
            "version": report.version,
            "workers": [
                f"{each.worker} {each.state}" + (f": {each.detail[:200]}" if each.detail else "")
                for each in report.workers
            ],
            "datasets": [each.name for each in report.datasets],
            "frameworks": [f"{name} {version}" for name, version in sorted(report.offers.frameworks.items())],
            "waiting_events": report.waiting_events,
            "dropped_events": report.dropped_events,
            "refused_events": report.refused_events,
        }
        edge = edge.model_copy(update={"spec": edge.spec.model_copy(update={"labels": dict(report.labels)})})
    return edge.model_copy(update={"status": status.model_copy(update=changes)})


def _steadiness(conditions: list[Condition], flaps: int, now: str) -> list[Condition]:
    """Only an edge that has flapped has the condition at all."""
    if flaps:
        message = f"back {flaps} times within {WINDOW:g} s; shown online after {STEADY:g} s without a cut"
        return condition(conditions, Condition(type="Steady", status="False", reason="Flaps", message=message), now)
    if any(each.type == "Steady" for each in conditions):
        return condition(conditions, Condition(type="Steady", status="True", reason="Calm"), now)
    return conditions


def dataset_of(store: ResourceStore, edge: str, report: Report | None) -> Iterator[Dataset]:
    """The data sets whose status an edge's report changes; one that nobody declared is made."""
    if report is None:
        return
    reported = {each.name: each for each in report.datasets}
    known = {each.name: each for each in store.all(Dataset)}
    for name in sorted(reported.keys() | known.keys()):
        dataset = known.get(name) or Dataset(metadata=Metadata(name=name))
        edges = {key: value for key, value in dataset.status.edges.items() if key != edge}
        if name in reported:
            edges[edge] = reported[name]
        if edges != dataset.status.edges or name not in known:
            yield dataset.model_copy(update={"status": dataset.status.model_copy(update={"edges": edges})})


def algorithm_of(store: ResourceStore, edge: str, report: Report | None) -> Iterator[Algorithm]:
    """The algorithms that an edge's report adds, or says the edge offers as well."""
    for offered, schema in sorted(report.offers.algorithms.items()) if report is not None else ():
        name = offered.lower()
        known = store.get(Algorithm, name) or Algorithm(metadata=Metadata(name=name))
        if edge in known.status.edges and known.spec.parameters:
            continue
        edges = sorted({*known.status.edges, edge})
        spec = known.spec.model_copy(
            update={
                "parameters": schema.get("properties", {}),
                "description": " ".join(str(schema.get("description", "")).split())[:1000],
            }
        )
        yield known.model_copy(update={"spec": spec, "status": known.status.model_copy(update={"edges": edges})})
