"""Translate reports into resources: edges, data sets and algorithms. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from heliograph.bus.contract.payloads import Report
from heliograph.bus.contract.resources import (
    Algorithm,
    Condition,
    Dataset,
    DatasetIndex,
    Edge,
    Metadata,
    condition,
    refusal_of,
)
from heliograph.bus.contract.resources.algorithm import AlgorithmSpec
from heliograph.bus.nats.authority_keys import Origin
from heliograph.coordinator.edges.damping import STEADY, WINDOW
from heliograph.coordinator.registry.dataset_versions import with_versions, without_edge
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import shorten
from heliograph.core.failures import Failures
from heliograph.core.names import CLOUD, require_label

MAX_MESSAGE = 2000


def edge_of(
    edge: Edge, report: Report | None, online: bool, flaps: int, now: str, foreign: bool = False,
    full: Sequence[str] = (), origin: Origin | None = None,
) -> Edge:  # fmt: skip
    """Return the edge's resource after a report or a change of presence.

    Args:
        flaps: returns within the damping window, where they are too many; else 0.
        foreign: whether it is a participant that trains by itself.
        full: what the cloud knows of its stores that have no room left.
        origin: how it has enrolled; None where nobody knows.
    """
    spec, status = edge.spec, edge.status
    conditions = _steadiness(status.conditions, flaps, now)
    conditions = _room(conditions, [*(report.full if report is not None else ()), *full], now)
    if report is not None:
        conditions = _confinement(conditions, report.unenforced, now)
        conditions = _steering(conditions, report.refused_document, now)
    changes: dict[str, object] = {"online": online, "foreign": foreign, "conditions": conditions}
    if origin is not None:
        changes |= {"invitation": origin.invitation, "node": origin.node}
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
            "formats": [f"{name} {version}" for name, version in sorted(report.offers.formats.items())],
            "waiting_events": report.waiting_events,
            "dropped_events": report.dropped_events,
            "refused_events": report.refused_events,
            "anomalous_events": report.anomalous_events,
            "unplaced_events": report.unplaced_events,
            "memory": report.capacity.memory or None if report.capacity is not None else None,
            "gpus": report.capacity.gpus if report.capacity is not None else None,
            "battery": report.node.battery if report.node is not None else None,
            "charging": report.node.charging if report.node is not None else False,
        }
        if report.labels != spec.labels:
            spec = spec.model_copy(update={"labels": dict(report.labels)})
    return edge.model_copy(update={"spec": spec, "status": status.model_copy(update=changes)})


def _steadiness(conditions: list[Condition], flaps: int, now: str) -> list[Condition]:
    """Set the condition ``Steady`` on edges that flap, or did; others never get it."""
    if flaps:
        message = f"back {flaps} times within {WINDOW:g} s; shown online after {STEADY:g} s without a cut"
        return condition(conditions, Condition(type="Steady", status="False", reason="Flaps", message=message), now)
    if any(each.type == "Steady" for each in conditions):
        return condition(conditions, Condition(type="Steady", status="True", reason="Calm"), now)
    return conditions


def _room(conditions: list[Condition], full: Sequence[str], now: str) -> list[Condition]:
    """Set the condition ``HasRoom`` on edges with a store that has no room left, or had; others never get it."""
    if full:
        wrong = Condition(type="HasRoom", status="False", reason="StoreFull", message="; ".join(full)[:MAX_MESSAGE])
        return condition(conditions, wrong, now)
    if any(each.type == "HasRoom" for each in conditions):
        return condition(conditions, Condition(type="HasRoom", status="True", reason="RoomAgain"), now)
    return conditions


def _confinement(conditions: list[Condition], unenforced: Sequence[str], now: str) -> list[Condition]:
    """Set the condition ``WorkersConfined`` on edges whose machine cannot enforce the site policy, or could not."""
    kind = "WorkersConfined"
    if unenforced:
        message = "; ".join(unenforced)[:MAX_MESSAGE]
        return condition(conditions, Condition(type=kind, status="False", reason="NotEnforced", message=message), now)
    if any(each.type == kind for each in conditions):
        return condition(conditions, Condition(type=kind, status="True", reason="Enforced"), now)
    return conditions


def _steering(conditions: list[Condition], refused: str, now: str) -> list[Condition]:
    """Set the condition ``Steered`` on edges that refuse their desired document, or did."""
    kind = "Steered"
    if refused:
        wrong = Condition(type=kind, status="False", reason="DocumentRefused", message=refused[:MAX_MESSAGE])
        return condition(conditions, wrong, now)
    if any(each.type == kind for each in conditions):
        return condition(conditions, Condition(type=kind, status="True", reason="DocumentAccepted"), now)
    return conditions


def datasets_of(store: ResourceStore, reports: Mapping[str, Report], now: str) -> Iterator[Dataset]:
    """Yield the data sets that these edges' reports change, with their versions, and new ones that nobody declared."""
    known = {each.name: each for each in store.all(Dataset)}
    changes: dict[str, dict[str, DatasetIndex | None]] = {}
    for edge, report in reports.items():
        for index in report.datasets:
            changes.setdefault(index.name, {})[edge] = index
        for name, dataset in known.items():
            if edge in dataset.status.edges and edge not in changes.get(name, {}):
                changes.setdefault(name, {})[edge] = None
    for name, changed in sorted(changes.items()):
        dataset = known.get(name) or Dataset(metadata=Metadata(name=name))
        edges = {key: value for key, value in dataset.status.edges.items() if key not in changed}
        edges |= {edge: index for edge, index in changed.items() if index is not None}
        if edges != dataset.status.edges or name not in known:
            status = dataset.status.model_copy(update={"edges": edges})
            yield dataset.model_copy(update={"status": with_versions(status, changed, now)})


def datasets_without(store: ResourceStore, edge: str) -> Iterator[Dataset]:
    """Yield the data sets on which a deleted edge has trained, without it."""
    for known in store.all(Dataset):
        if edge in known.status.trained:
            yield known.model_copy(update={"status": without_edge(known.status, edge)})


def algorithms_of(store: ResourceStore, reports: Mapping[str, Report], failures: Failures) -> Iterator[Algorithm]:
    """Yield the algorithms that are new in these reports, or offered on further edges, and the packages that other
    edges have now. Pass over one that makes no valid resource.

    No report says anything about an algorithm that is a package, but that its edge has it. What the agent ``cloud``
    reports describes any other; until it has, the first edge that offers it does. No other edge changes the
    description.
    """
    offering: dict[str, dict[str, dict[str, Any]]] = {}
    for edge, report in reports.items():
        for offered, schema in report.offers.algorithms.items():
            offering.setdefault(offered.lower(), {})[edge] = schema
    for name, schemas in sorted(offering.items()):
        with failures.contain(f"algorithm {shorten(name)} in the report of edge {min(schemas)}"):
            require_label(name, "offers.algorithms")
            known = store.get(Algorithm, name) or Algorithm(metadata=Metadata(name=name))
            spec = known.spec
            if spec.package is not None:
                continue
            if CLOUD in schemas:
                spec = _spec_of(schemas[CLOUD])
            elif not known.spec.parameters and CLOUD not in known.status.edges:
                spec = _spec_of(schemas[min(schemas)])
            edges = sorted({*known.status.edges, *schemas})
            if spec == known.spec and edges == known.status.edges:
                continue
            yield known.model_copy(update={"spec": spec, "status": known.status.model_copy(update={"edges": edges})})
    for known in store.all(Algorithm):
        if known.spec.package is not None:
            having = {edge for edge, report in reports.items() if known.spec.package.digest in report.packages}
            edges = sorted((set(known.status.edges) - reports.keys()) | having)
            if edges != known.status.edges:
                yield known.model_copy(update={"status": known.status.model_copy(update={"edges": edges})})


def algorithms_without(store: ResourceStore, edge: str) -> Iterator[Algorithm]:
    """Yield the algorithms that a deleted edge offered, without it."""
    for known in store.all(Algorithm):
        if edge in known.status.edges:
            edges = [each for each in known.status.edges if each != edge]
            yield known.model_copy(update={"status": known.status.model_copy(update={"edges": edges})})


def _spec_of(schema: Mapping[str, Any]) -> AlgorithmSpec:
    """Return the algorithm's part of a resource. Raise Refused where it could not be read again."""
    description = " ".join(str(schema.get("description", "")).split())[:1000]
    try:
        return AlgorithmSpec(parameters=schema.get("properties", {}), description=description)
    except ValidationError as error:
        raise refusal_of(error) from None
