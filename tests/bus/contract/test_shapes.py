"""Shapes that a Kubernetes structural schema can express. The forms of release 0.1 are still read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from heliograph.bus.contract.registry import BUILT_IN, parse_resource
from heliograph.bus.contract.resources import dump
from heliograph.core.errors import Refused

ANY_SCALAR = ("Parameter", "value")
"""The only union of types; the docstring of ``Parameter`` gives the reason."""


def _job(**spec: Any) -> dict[str, Any]:
    given = {"aggregationWorker": {"model": {"name": "m"}}, "trainingWorkers": [{"name": "a"}, {"name": "b"}]}
    return {"kind": "FederatedTask", "metadata": {"name": "one"}, "spec": given | spec}


def _service(**spec: Any) -> dict[str, Any]:
    worker = {"model": {"name": "m"}, "scriptBootFile": "serve.py"}
    given = {"edgeWorker": worker, "cloudWorker": worker}
    return {"kind": "JointInferenceService", "metadata": {"name": "one"}, "spec": given | spec}


def _unions(schema: Any, model: str, field: str = "") -> Iterator[tuple[str, str]]:
    """Yield (model, field) wherever a schema leaves the type open."""
    if isinstance(schema, list):
        for each in schema:
            yield from _unions(each, model, field)
    if not isinstance(schema, dict):
        return
    alternatives = [each for word in ("anyOf", "oneOf", "allOf") for each in schema.get(word, ())]
    if len([each for each in alternatives if each.get("type") != "null"]) > 1 or isinstance(schema.get("type"), list):
        yield model, field
    for name, part in schema.get("$defs", {}).items():
        yield from _unions(part, name)
    for name, part in schema.get("properties", {}).items():
        yield from _unions(part, model, name)
    for word in ("anyOf", "items", "additionalProperties", "patternProperties"):
        yield from _unions(schema.get(word), model, field)


@pytest.mark.parametrize("kind", BUILT_IN.kinds)
def test_no_field_of_a_resource_is_a_union_of_types_but_a_parameters_value(kind: str) -> None:
    assert set(_unions(BUILT_IN.kinds[kind].model_json_schema(), kind)) <= {ANY_SCALAR}


def test_a_union_would_be_seen() -> None:
    schema = BUILT_IN.kinds["FederatedTask"].model_json_schema()
    assert set(_unions(schema, "FederatedTask")) == {ANY_SCALAR}
    schema["$defs"]["FederatedTaskSpec"]["properties"]["rounds"] = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert ("FederatedTaskSpec", "rounds") in set(_unions(schema, "FederatedTask"))


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (_job(participants="all"), _job(participants={"all": True})),
        (_job(participants=2), _job(participants={"count": 2})),
        (_service(edges="all"), _service(edges={"all": True})),
        (_service(), _service(edges={"all": True})),
        (_service(edges=["edge-1", "edge-2"]), _service(edges={"names": ["edge-1", "edge-2"]})),
    ],
)
def test_an_older_form_is_the_same_document_and_is_written_as_the_newer(older: Any, newer: Any) -> None:
    read = parse_resource(older)
    assert read == parse_resource(newer)
    written = dump(read)["spec"]
    field = "participants" if "participants" in written else "edges"
    assert written[field] == newer["spec"][field]
    assert parse_resource(dump(read)) == read


@pytest.mark.parametrize(
    ("document", "field", "expected"),
    [
        (_job(participants={}), "spec.participants", "either {count: N}, {fraction: 0.1} or {all: true}"),
        (_job(participants={"all": False}), "spec.participants", "either {count: N}, {fraction: 0.1} or {all: true}"),
        (_job(participants={"count": 2, "all": True}), "spec.participants",
         "either {count: N}, {fraction: 0.1} or {all: true}"),
        (_job(participants=True), "spec.participants", "{count: N}, {fraction: 0.1} or {all: true}"),
        (_job(participants={"count": "2"}), "spec.participants.count", "a valid integer"),
        (_job(participants={"number": 2}), "spec.participants.number", "no such field"),
        (_job(participants={"count": 1}, quorum=2), "spec", "quorum 2 is more than the 1 participants of a round"),
        (_service(edges={}), "spec.edges", "either {names: [EDGE, ...]} or {all: true}"),
        (_service(edges={"names": ["a"], "all": True}), "spec.edges", "either {names: [EDGE, ...]} or {all: true}"),
        (_service(edges=3), "spec.edges", "{names: [EDGE, ...]} or {all: true}"),
        (_service(edges=["Bad_Name"]), "spec.edges.names[0]", "a DNS label"),
    ],
)
def test_a_value_of_neither_form_is_refused_with_both_named(document: Any, field: str, expected: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_resource(document, "request/jobs/create")
    assert (refused.value.field, refused.value.topic) == (field, "request/jobs/create")
    assert expected in refused.value.expected
