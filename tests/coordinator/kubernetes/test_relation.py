"""Who owns a spec: every combination of a custom resource and a resource has one answer."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from heliograph.bus.contract.resources import Edge, Metadata, Model, Resource
from heliograph.coordinator.authorization.managed import creator_in
from heliograph.coordinator.kubernetes.documents import CLOUD, FINALIZER, MIRROR, UID
from heliograph.coordinator.kubernetes.relation import Relation, relation_of

NS, OURS = "team", "cloud-1"


def custom(uid: str = "u1", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "one", "namespace": NS, "uid": uid, **metadata}}


def deleted(*finalizers: str, uid: str = "u1") -> dict[str, Any]:
    return custom(uid, deletionTimestamp="2026-01-01T00:00:00Z", finalizers=list(finalizers))


def model(created_by: str, project: str = NS, of: str = "", uid: str = "r1") -> Model:
    annotations = {UID: of} if of else {}
    return Model(metadata=Metadata(name="one", namespace=project, uid=uid, created_by=created_by,
                                   annotations=annotations))  # fmt: skip


MANAGED = model(creator_in(NS), of="u1")
ALICE = model("alice")
ELSEWHERE = model("alice", project="other")


@pytest.mark.parametrize(("found", "resource", "relation"), [
    (None, None, Relation.NOTHING),
    (None, MANAGED, Relation.ORPHAN),
    (None, ALICE, Relation.UNSHOWN),
    (None, ELSEWHERE, Relation.NOTHING),
    (custom(), None, Relation.NEW),
    (custom(), MANAGED, Relation.OWN),
    (custom("u2"), MANAGED, Relation.REPLACED),
    (custom(), ALICE, Relation.TAKEN),
    (custom(), ELSEWHERE, Relation.TAKEN),
    (custom(), model(creator_in("other"), project="other", of="u9"), Relation.TAKEN),
    (custom(annotations={CLOUD: "cloud-2"}), None, Relation.FOREIGN),
    (custom(annotations={CLOUD: OURS}), None, Relation.NEW),
    (deleted(FINALIZER), MANAGED, Relation.LEAVING),
    (deleted(FINALIZER), None, Relation.LEFT),
    (deleted(FINALIZER), ALICE, Relation.LEFT),
    (deleted(FINALIZER, uid="u2"), MANAGED, Relation.LEFT),
    (deleted("someone/else"), MANAGED, Relation.NOTHING),
    (custom(labels={MIRROR: "r1"}), ALICE, Relation.MIRRORED),
    (custom(labels={MIRROR: "r0"}), ALICE, Relation.STALE),
    (custom(labels={MIRROR: "r1"}), None, Relation.STALE),
    (custom(labels={MIRROR: "r1"}), ELSEWHERE, Relation.STALE),
    (custom(labels={MIRROR: "r1"}), MANAGED, Relation.STALE),
])  # fmt: skip
def test_each_combination(found: dict[str, Any] | None, resource: Resource | None, relation: Relation) -> None:
    assert relation_of(found, resource, NS, OURS) is relation


def test_edges_of_no_project_are_shown_where_the_operator_is_at_home() -> None:
    edge = Edge(metadata=Metadata(name="one", uid="e"))
    assert relation_of(None, edge, "home", OURS) is Relation.UNSHOWN


def test_nothing_that_was_made_elsewhere_is_ever_deleted() -> None:
    """Only ORPHAN, REPLACED and LEAVING delete a resource, and none of them meets one that no custom resource made."""
    customs = [None, custom(), custom("u2"), deleted(FINALIZER), custom(labels={MIRROR: "r1"}), deleted()]
    for found, resource in product(customs, [ALICE, ELSEWHERE]):
        assert relation_of(found, resource, NS, OURS) not in (Relation.ORPHAN, Relation.REPLACED, Relation.LEAVING)
