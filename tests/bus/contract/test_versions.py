"""Versions of the contract: unknown fields of a newer version are ignored, and an older version gets no field that it
does not know."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from heliograph.bus.contract import payloads, topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.later import parts_of
from heliograph.bus.contract.models import models_of
from heliograph.bus.contract.payloads import Desired, InferenceSpec, Payload, WorkerTaskBase
from heliograph.bus.contract.payloads.worker_tasks import ROLES
from heliograph.bus.contract.registry import BUILT_IN, parse_resource
from heliograph.bus.contract.resources import FederatedTask, Metadata
from heliograph.bus.contract.versions import FIRST, FLOOR, added, left_out, parse_version, since_of
from heliograph.core.errors import Refused

RECORDED = Path(__file__).parents[2] / "compat" / "data" / "0.1"
FIELDS_OF_0_1: dict[str, dict[str, bool]] = json.loads((RECORDED / "fields.json").read_text())
EVENTS = {
    "task-edge": topics.TASK,
    "task-cloud": topics.TASK,
    "report": topics.REPORT,
    "model-update": topics.MODEL_UPDATE,
    "aggregation": topics.AGGREGATION,
    "evaluation": topics.EVALUATION,
}
UNKNOWN = st.from_regex(r"new_[a-z]{1,8}", fullmatch=True)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20) | st.binary(max_size=20)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(UNKNOWN, inner, max_size=3))
OPEN = {"parameters", "counted", "metrics", "columns", "labels", "algorithms", "rules", "frameworks", "samples",
        "datasets", "rule_parameters"}  # fmt: skip
"""Mappings with keys chosen by users; no key of them is unknown."""


@cache
def _recorded(name: str) -> Any:
    return decode((RECORDED / "events" / f"{name}.msgpack").read_bytes()).data


def _with_more(draw: st.DrawFn, tree: Any) -> Any:
    """Return the tree with unknown fields at every depth that the contract defines."""
    if isinstance(tree, list):
        return [_with_more(draw, each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    closed = {name: _with_more(draw, value) for name, value in tree.items() if name not in OPEN or type(value) is list}
    return tree | closed | draw(st.dictionaries(UNKNOWN, VALUES, max_size=2))


@st.composite
def more_than_known(draw: st.DrawFn) -> tuple[str, Any]:
    name = draw(st.sampled_from(sorted(EVENTS)))
    return name, _with_more(draw, _recorded(name))


@given(more_than_known())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_payload_with_unknown_fields_reads_as_the_same_payload(case: tuple[str, Any]) -> None:
    name, tree = case
    topic: Any = EVENTS[name]
    assert topic.validate(tree, name) == topic.validate(_recorded(name), name)


TASK = {"worker": "w", "role": "train", "job": "job", "job_uid": "u", "round": 3}
BROKEN = st.one_of(
    st.sampled_from([
        TASK | {"role": "distil"},
        TASK | {"role": "infer", "inference": {"fallback": "retry"}},
        TASK | {"role": "aggregate"},
        TASK | {"parameters": {"x": {"y": 1}}},
        {key: value for key, value in TASK.items() if key != "role"},
        TASK | {"role": ["train"]},
    ]),
    VALUES,
    st.dictionaries(st.sampled_from(sorted(TASK)), VALUES),
)  # fmt: skip


@given(st.lists(st.just(TASK) | BROKEN, max_size=8))
def test_a_document_with_unreadable_tasks_gives_the_others_and_names_them(tasks: list[Any]) -> None:
    tree = {"edge": "edge-1", "generation": {"epoch": 1, "n": 2}, "tasks": tasks}
    desired = topics.TASK.validate(tree, "edge/edge-1/down/task")
    assert len(desired.tasks) + len(desired.unsupported) == len(tasks)
    assert len(desired.tasks) >= tasks.count(TASK)
    assert all(isinstance(each, WorkerTaskBase) for each in desired.tasks)
    for each in desired.unsupported:
        assert each.reason and each.worker
        payloads.WorkerReport(worker=each.worker, role=each.role, job=each.job, job_uid=each.job_uid,
                              round=each.revision, state="refused", detail=each.reason)  # fmt: skip
    assert topics.TASK.validate(desired.model_dump(exclude_none=True), "again").tasks == desired.tasks


def test_a_document_names_its_unsupported_parts_with_their_reasons() -> None:
    tasks = [TASK, TASK | {"role": "distil", "worker": "new"}, TASK | {"worker": "Bad"},
             TASK | {"role": "infer", "worker": "i", "inference": {"fallback": "retry"}}]  # fmt: skip
    datasets = {"data": {"url": "a.csv"}, "columns": {"format": "hdf5"}}
    generation = {"epoch": 1, "n": 2}
    desired = topics.TASK.validate(
        {"edge": "e", "generation": generation, "tasks": tasks, "datasets": datasets, "unsupported": ["forged"]}, "t"
    )
    assert [(each.worker, each.role, each.job, each.revision) for each in desired.unsupported] == [
        ("new", "distil", "job", 3), ("task-3", "train", "job", 3), ("i", "infer", "job", 3)
    ]  # fmt: skip
    reasons = [each.reason for each in desired.unsupported]
    assert reasons[0] == "field role: expected " + " or ".join(ROLES) + ", got distil"
    assert reasons[1].startswith("field worker: expected a DNS label")
    assert reasons[2] == "field inference.fallback: expected 'edge' or 'error', got retry"
    assert list(desired.datasets) == ["data"]
    (aside,) = desired.unsupported_datasets
    formats = "'npz', 'csv', 'npy', 'parquet', 'images', 'txt', 'coco' or 'webdataset'"
    expected = f"field format: expected {formats}, got hdf5"
    assert (aside.name, aside.error) == ("columns", expected)


def test_an_invalid_document_is_refused_as_a_whole() -> None:
    for tree in ({"edge": "e"}, {"edge": "E", "generation": {}}, {"edge": "e", "generation": {}, "tasks": 3}):
        with pytest.raises(Refused):
            topics.TASK.validate(tree, "t")


def test_a_status_may_say_more_and_a_spec_may_not() -> None:
    ref = {"digest": "a" * 64, "size": 1}
    document: dict[str, Any] = {"apiVersion": "edgeai.io/v1alpha1", "kind": "Model", "metadata": {"name": "m"}}
    version = {"version": 1, "weights": ref | {"mirror": "b"}, "signed": True}
    read = parse_resource(document | {"status": {"versions": [version], "aliases": {"x": 1}}})
    assert read.status.versions[0].weights.digest == "a" * 64  # type: ignore[attr-defined]
    for spec, field in (({"colour": 1}, "spec.colour"), ({"weights": ref | {"mirror": "b"}}, "spec.weights.mirror")):
        with pytest.raises(Refused) as refused:
            parse_resource(document | {"spec": spec})
        assert refused.value.field == field
    with pytest.raises(Refused) as refused:
        parse_resource(document | {"status": {"versions": [version | {"version": "x"}]}})
    assert refused.value.field == "status.versions[0].version"
    made = FederatedTask.model_validate_json(_stored_job())
    assert isinstance(made.metadata, Metadata)


def _stored_job() -> str:
    buckets = json.loads((RECORDED / "buckets.json").read_text())
    stored: str = buckets["resources"]["jobs.line"]
    return stored


# fields left out for older versions


class _Spec(Payload):
    size: int
    bits: int = added("0.3", 32)


class _Train(Payload):
    role: Literal["train"] = "train"
    spec: _Spec | None = None
    tags: dict[str, int] = added("0.2", {})


class _Rest(Payload):
    role: Literal["rest"] = "rest"


class _Document(Payload):
    tasks: list[Annotated[_Train | _Rest, Field(discriminator="role")]]
    named: dict[str, _Spec] = Field(default_factory=dict)
    note: str | None = added("0.4")


FULL = _Document(tasks=[_Train(spec=_Spec(size=1, bits=8), tags={"a": 1}), _Rest()], named={"x": _Spec(size=2, bits=4)},
                 note="n")  # fmt: skip


def _written_for(version: str) -> dict[str, Any]:
    return FULL.model_dump(exclude_none=True, exclude=left_out(_Document, parse_version(version)))


def test_a_reader_gets_the_fields_that_its_version_knows() -> None:
    oldest = {"tasks": [{"role": "train", "spec": {"size": 1}}, {"role": "rest"}], "named": {"x": {"size": 2}}}
    assert _written_for("0.1.7") == oldest
    with_tags = {"role": "train", "spec": {"size": 1}, "tags": {"a": 1}}
    floor = oldest | {"tasks": [with_tags, {"role": "rest"}]}
    assert _written_for("0.2.0.dev0") == _written_for("") == _written_for("no version") == floor
    assert _written_for("0.3.0")["named"] == {"x": {"size": 2, "bits": 4}}
    assert _written_for("0.4.1") == _written_for("12.0") == FULL.model_dump()


def test_versions_that_read_the_same_fields_share_the_excluded_ones() -> None:
    assert left_out(_Document, (0, 2)) is left_out(_Document, parse_version("0.2.9"))
    assert left_out(_Document, (0, 4)) is None
    assert left_out(_Rest, FLOOR) is None


class _Tree(Payload):
    name: str = ""
    parts: list[_Tree] = Field(default_factory=list)


class _Forest(Payload):
    tree: _Tree | None = None
    height: int = added("0.2", 0)


class _Grown(Payload):
    parts: list[_Grown] = Field(default_factory=list)
    age: int = added("0.2", 0)


def test_a_model_may_lie_within_itself_where_none_of_its_fields_is_new() -> None:
    assert left_out(_Forest, FIRST) == {"height": True}
    with pytest.raises(TypeError, match="_Grown lies within itself"):
        left_out(_Grown, FIRST)


def test_an_unused_field_is_not_written_to_anybody() -> None:
    _Train().tags["a"] = 1  # changes this instance only, not the default
    assert _Document(tasks=[_Train(spec=_Spec(size=1))]).model_dump(exclude_none=True) == {
        "tasks": [{"role": "train", "spec": {"size": 1}}], "named": {}
    }  # fmt: skip


# compatibility with the payloads of 0.1


def _models() -> dict[str, type[BaseModel]]:
    return models_of(topic.payload for topic in BUILT_IN.topics)


RENAMED = {"Refused": "UncountedUpdate"}
"""New names of classes, by their names in 0.1; class names never travel."""


REPLACED = {"SampleLabel"}
"""Payloads of 0.1 that another took the place of: nothing of 0.1 reads or writes them."""


@pytest.mark.parametrize("name", sorted(FIELDS_OF_0_1.keys() - REPLACED))
def test_no_field_is_new_without_a_version_and_a_default(name: str) -> None:
    """Earlier versions read the payloads, so each new field is declared with ``added``."""
    before = FIELDS_OF_0_1[name]
    for model in ROLES.values() if name == "Task" else [_models()[RENAMED.get(name, name)]]:
        for field, info in model.model_fields.items():
            if not {field, info.alias} & before.keys() and not info.exclude:
                assert since_of(info) > FIRST, f"{model.__name__}.{field}: declare it with added(<version>)"
                assert not info.is_required() and info.exclude_if is not None, f"{model.__name__}.{field}"
        required = {key for key, must in before.items() if must}
        written = {name for field, info in model.model_fields.items() for name in (field, info.alias)}
        assert required <= written, f"{model.__name__}: 0.1 cannot read it without {required - written}"


@pytest.mark.parametrize("name", sorted(_models()))
def test_every_payload_can_be_written_for_the_oldest_reader(name: str) -> None:
    left_out(_models()[name], FLOOR)


def test_a_field_of_one_name_has_one_version_in_every_role() -> None:
    versions: dict[str, set[Any]] = {}
    for role in ROLES.values():
        for field, info in role.model_fields.items():
            versions.setdefault(field, set()).add(since_of(info))
    assert all(len(found) == 1 for found in versions.values()), versions


def test_every_role_stands_in_the_union_and_says_its_name() -> None:
    (annotation,) = parts_of(Desired.model_fields["tasks"].annotation)
    _, task = parts_of(annotation)
    union, _ = get_args(task)
    assert set(get_args(union)) == set(ROLES.values())
    with pytest.raises(ValidationError):
        InferenceSpec(fallback="retry")  # type: ignore[arg-type]
