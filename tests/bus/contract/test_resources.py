"""Resource documents: each accepted spelling gives the same document, and each refusal names its field."""

from __future__ import annotations

import base64
import copy
import io
import json
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from heliograph.bus.contract.registry import BUILT_IN, parse_resource
from heliograph.bus.contract.resources import Condition, FederatedTask, condition, dump
from heliograph.bus.contract.weights_file import dumps
from heliograph.core.errors import Refused

Tree = dict[str, Any]
SEED = Path(__file__).parents[2] / "data" / "federated-task.seed.yaml"
DIGEST = "0123456789abcdef" * 4
SMALL = dumps({"w": np.zeros(2)})
INLINE = base64.b64encode(SMALL).decode()
SPECS: dict[str, Tree] = {
    "FederatedTask": {
        "aggregationWorker": {"model": {"name": "resnet50"}},
        "trainingWorkers": [{"name": "work0"}],
    },
    "Dataset": {"nodeName": "edge0", "url": "file:///data/a.npz", "format": "npz"},
    "Model": {
        "weights": {"digest": sha256(SMALL).hexdigest(), "size": len(SMALL), "inline": INLINE},
        "framework": "torch",
    },
    "Algorithm": {"description": "robust mean", "parameters": {"type": "object"}},
    "Edge": {"labels": {"site": "roof"}},
}


def document(kind: str, **spec: Any) -> Tree:
    tree = {"apiVersion": "edgeai.io/v1alpha1", "kind": kind, "metadata": {"name": "one"}, "spec": SPECS[kind] | spec}
    return copy.deepcopy(tree)


def seed() -> Tree:
    tree: Tree = yaml.safe_load(SEED.read_text())
    return tree


def parse_task(tree: Tree) -> FederatedTask:
    parsed = parse_resource(tree)
    assert isinstance(parsed, FederatedTask)
    return parsed


def test_every_kind_has_a_document_here() -> None:
    assert set(SPECS) >= {"FederatedTask", "Dataset", "Model", "Algorithm", "Edge"}
    assert set(SPECS) <= set(BUILT_IN.kinds)


def holds(tree: Any, part: Any) -> bool:
    """Return whether ``tree`` has everything in ``part``; it may have defaults besides."""
    if isinstance(part, dict):
        return all(name in tree and holds(tree[name], value) for name, value in part.items())
    if isinstance(part, list):
        return len(tree) == len(part) and all(map(holds, tree, part))
    return bool(tree == part)


@pytest.mark.parametrize("kind", SPECS)
def test_every_kind_is_read_and_written(kind: str) -> None:
    parsed = parse_resource(document(kind), plural=BUILT_IN.kinds[kind].plural)
    assert isinstance(parsed, BUILT_IN.kinds[kind])
    assert parsed.name == "one"
    tree = dump(parsed)
    assert tree["apiVersion"] == "edgeai.io/v1alpha1"
    assert tree["kind"] == kind
    assert holds(tree["spec"], SPECS[kind])
    assert parse_resource(json.loads(json.dumps(tree))) == parsed


@pytest.mark.parametrize("kind", [kind for kind in SPECS if kind != "FederatedTask"])
def test_a_spec_may_be_left_out_where_nothing_in_it_is_required(kind: str) -> None:
    assert parse_resource({"kind": kind, "metadata": {"name": "one"}}).name == "one"


def test_weights_travel_as_base64_in_json_and_as_bytes_inside() -> None:
    model = parse_resource(document("Model"))
    assert model.spec.weights.inline == SMALL  # type: ignore[attr-defined]
    assert dump(model)["spec"]["weights"]["inline"] == INLINE


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("planted.py", "print('ran')")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "changes", "expected"),
    [
        (_zip(), {}, "a safetensors header within the file"),
        (b"", {}, "a safetensors header within the file"),
        (SMALL[:-1], {}, "tensor 'w' at offset 0, within the file"),
        (SMALL, {"digest": DIGEST}, f"{sha256(SMALL).hexdigest()}, the SHA-256 of the file"),
        (SMALL, {"size": 1 << 40}, f"{len(SMALL)}, the bytes of inline"),
    ],
    ids=["zip", "empty", "cut", "digest", "size"],
)
def test_inline_weights_that_are_no_such_file_are_refused_with_the_reason(
    content: bytes, changes: Tree, expected: str
) -> None:
    inline = base64.b64encode(content).decode()
    weights = {"digest": sha256(content).hexdigest(), "size": len(content), "inline": inline}
    with pytest.raises(Refused) as refused:
        parse_resource(document("Model", weights=weights | changes), "request/models/create")
    assert (refused.value.topic, refused.value.field) == ("request/models/create", "spec.weights")
    assert expected in refused.value.expected


def test_the_seed_is_accepted() -> None:
    task = parse_task(seed())
    assert task.name == "example-federatedtask"
    assert task.spec.aggregation_worker.model.name == "resnet50"
    assert task.spec.aggregation_worker.worker_spec.aggregation_algorithm == "FedAvg"
    parameters = task.spec.aggregation_worker.worker_spec.parameters
    assert [(each.key, each.value) for each in parameters] == [
        ("batch_size", None),
        ("learning_rate", None),
        ("min_node_number", None),
        ("rounds_between_validations", None),
    ]
    assert [worker.name for worker in task.spec.training_workers] == ["work0", "work1", "work2"]
    first = task.spec.training_workers[0]
    assert first.node_name == "edge0"
    assert first.worker_spec.dataset is not None
    assert first.worker_spec.dataset.name == "dataset0"
    assert first.worker_spec.train_script_dir == "/code/"
    assert first.worker_spec.train_script_boot_file == "/code/main.py"
    assert first.worker_spec.framework_type == "tensorflow"
    assert first.worker_spec.framework_version == "1.12"
    assert [(each.key, each.value) for each in first.worker_spec.parameters] == [
        ("batch_size", 32),
        ("learning_rate", 0.001),
    ]
    assert task.spec.training_workers[1].node_name is None
    assert parse_resource(dump(task)) == task


def test_training_workers_beside_the_aggregation_worker_are_the_same_document() -> None:
    tree = seed()
    tree["spec"]["trainingWorkers"] = tree["spec"]["aggregationWorker"].pop("trainingWorkers")
    assert parse_task(tree) == parse_task(seed())


def test_training_workers_in_both_places_are_refused() -> None:
    tree = seed()
    tree["spec"]["trainingWorkers"] = [{"name": "another"}]
    with pytest.raises(Refused) as refused:
        parse_resource(tree, "request/jobs/create")
    assert refused.value.field == "spec"
    assert "trainingWorkers" in refused.value.expected


def worker_spec(tree: Tree) -> Tree:
    spec: Tree = tree["spec"]["aggregationWorker"]["trainingWorkers"][0]["workerSpec"]
    return spec


def test_arguments_and_working_directory_of_a_script_are_in_a_document_that_names_them() -> None:
    tree = seed()
    assert "trainScriptArguments" not in str(dump(parse_task(tree)))
    worker_spec(tree)["dataset"] |= {"trainScriptArguments": ["--lr", "0.1"], "trainScriptWorkingDir": "data"}
    task = parse_task(tree)
    spec = task.spec.training_workers[0].worker_spec
    assert (spec.train_script_arguments, spec.train_script_working_dir) == (["--lr", "0.1"], "data")
    assert parse_resource(dump(task)) == task
    for wrong in (["x"] * 257, ["x" * 1025], "--lr 0.1", [0.1]):
        worker_spec(tree)["dataset"]["trainScriptArguments"] = wrong
        with pytest.raises(Refused, match="trainScriptArguments"):
            parse_resource(tree)


SETTINGS = ["trainScriptDir", "trainScriptBootFile", "frameworkType", "frameworkVersion"]


@pytest.mark.parametrize("moved", [SETTINGS, *([each] for each in SETTINGS)], ids="+".join)
def test_script_settings_under_worker_spec_are_the_same_document(moved: list[str]) -> None:
    tree = seed()
    spec = worker_spec(tree)
    for setting in moved:
        spec[setting] = spec["dataset"].pop(setting)
    assert parse_task(tree) == parse_task(seed())


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_script_setting_in_both_places(setting: str) -> None:
    same = seed()
    worker_spec(same)[setting] = worker_spec(same)["dataset"][setting]
    assert parse_task(same) == parse_task(seed())
    differing = seed()
    worker_spec(differing)[setting] = "another"
    with pytest.raises(Refused) as refused:
        parse_resource(differing)
    assert refused.value.field == "spec.trainingWorkers[0].workerSpec"
    assert setting in refused.value.expected


def change(path: str, value: object) -> Callable[[Tree], None]:
    """Return a function that sets the field at ``path``; "nothing" removes it."""

    def apply(tree: Any) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
        for part in parents:
            tree = tree[part]
        if value == "nothing":
            del tree[last]
        else:
            tree[last] = value

    return apply


@pytest.mark.parametrize(
    ("kind", "path", "value", "code", "field", "expected", "got"),
    [
        ("FederatedTask", "spec/rouds", 3, "unknown-field", "spec.rouds", "no such field", "3"),
        ("FederatedTask", "extra", 3, "unknown-field", "extra", "no such field", "3"),
        ("FederatedTask", "metadata/owner", "me", "unknown-field", "metadata.owner", "no such field", "me"),
        ("FederatedTask", "spec/rounds", "3", "invalid", "spec.rounds", "integer", "3"),
        ("FederatedTask", "spec/rounds", True, "invalid", "spec.rounds", "integer", "True"),
        ("FederatedTask", "spec/rounds", 1.5, "invalid", "spec.rounds", "integer", "1.5"),
        ("FederatedTask", "spec/rounds", 0, "invalid", "spec.rounds", "greater than or equal to 1", "0"),
        ("FederatedTask", "spec/rounds", None, "invalid", "spec.rounds", "integer", "None"),
        ("FederatedTask", "spec/quorum", 2, "invalid", "spec", "quorum 2 is more than the 1 participants", "quorum"),
        ("FederatedTask", "spec/participants", "some", "invalid", "spec.participants",
         "{count: N}, {fraction: 0.1} or {all", "some"),
        ("FederatedTask", "spec/participants", 0, "invalid", "spec.participants.count", "or equal to 1", "0"),
        ("FederatedTask", "spec/roundDeadlineSeconds", float("nan"), "invalid", "spec.roundDeadlineSeconds", "finite",
         "nan"),
        ("FederatedTask", "spec/trainingWorkers", [], "invalid", "spec.trainingWorkers", "at least 1 item", "[]"),
        ("FederatedTask", "spec/trainingWorkers", {}, "invalid", "spec.trainingWorkers", "list", "{}"),
        ("FederatedTask", "spec/trainingWorkers", "nothing", "invalid", "spec.trainingWorkers", "a value", "nothing"),
        ("FederatedTask", "spec/trainingWorkers/0/name", "Work_0", "invalid", "spec.trainingWorkers[0].name",
         "DNS label", "Work_0"),
        ("FederatedTask", "spec/trainingWorkers/0/nodeName", "a.b", "invalid", "spec.trainingWorkers[0].nodeName",
         "DNS label", "a.b"),
        ("FederatedTask", "spec/trainingWorkers", [{"name": "a"}, {"name": "a"}], "invalid", "spec", "same name",
         "aggregationWorker"),
        ("FederatedTask", "spec/aggregationWorker", 5, "invalid", "spec.aggregationWorker", "dictionary", "5"),
        ("FederatedTask", "spec/aggregationWorker/model", "m", "invalid", "spec.aggregationWorker.model",
         "dictionary", "m"),
        ("FederatedTask", "spec/aggregationWorker/workerSpec",
         {"parameters": [{"key": "a"}, {"key": "b", "value": [1]}]}, "invalid",
         "spec.aggregationWorker.workerSpec.parameters[1].value", "a valid boolean or a valid integer", "[1]"),
        ("FederatedTask", "spec", 5, "invalid", "spec", "dictionary", "5"),
        ("FederatedTask", "metadata", None, "invalid", "metadata", "dictionary", "None"),
        ("FederatedTask", "metadata", "nothing", "invalid", "metadata", "a value", "nothing"),
        ("FederatedTask", "metadata/name", "nothing", "invalid", "metadata.name", "a value", "nothing"),
        ("FederatedTask", "metadata/name", 5, "invalid", "metadata.name", "string", "5"),
        ("FederatedTask", "metadata/name", "One", "invalid", "metadata.name", "DNS label", "One"),
        ("FederatedTask", "metadata/name", "a" * 64, "invalid", "metadata.name", "DNS label", "aaaa"),
        ("FederatedTask", "apiVersion", "v2", "invalid", "apiVersion", "edgeai.io/v1alpha1", "v2"),
        ("FederatedTask", "kind", "Deployment", "unknown-kind", "kind", "FederatedTask", "Deployment"),
        ("FederatedTask", "kind", ["FederatedTask"], "unknown-kind", "kind", "FederatedTask", "FederatedTask"),
        ("FederatedTask", "kind", "nothing", "unknown-kind", "kind", "FederatedTask", "None"),
        ("Dataset", "spec/format", "hdf5", "invalid", "spec.format", "'npz', 'csv', 'npy', 'parquet', ", "hdf5"),
        ("Dataset", "spec/path", "/x", "unknown-field", "spec.path", "no such field", "/x"),
        ("Dataset", "spec/url", 5, "invalid", "spec.url", "string", "5"),
        ("Model", "spec/weights/digest", "0" * 63, "invalid", "spec.weights.digest", "SHA-256", "0000"),
        ("Model", "spec/weights/size", -1, "invalid", "spec.weights.size", "greater than or equal to 0", "-1"),
        ("Model", "spec/weights/inline", "é", "invalid", "spec.weights.inline", "ASCII", "é"),
        ("Model", "spec/weights/path", "/etc/passwd", "unknown-field", "spec.weights.path", "no such field", "/etc"),
        ("Algorithm", "spec/parameters", [], "invalid", "spec.parameters", "dictionary", "[]"),
        ("Edge", "spec/labels", {"site": 5}, "invalid", "spec.labels.site", "string", "5"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_field_expected_and_got(
    kind: str, path: str, value: object, code: str, field: str, expected: str, got: str
) -> None:
    tree = document(kind)
    change(path, value)(tree)
    with pytest.raises(Refused) as refused:
        parse_resource(tree, "request/jobs/create")
    error = refused.value
    assert (error.code, error.topic, error.field) == (code, "request/jobs/create", field)
    assert expected in error.expected
    assert got in error.got
    assert error.as_dict()["message"] == str(error)
    assert field in str(error)
    assert expected in str(error)


@pytest.mark.parametrize("tree", [None, [], "FederatedTask", 5, b"{}"])
def test_a_document_that_is_no_mapping_is_refused(tree: object) -> None:
    with pytest.raises(Refused) as refused:
        parse_resource(tree, "job.yaml")
    assert refused.value.topic == "job.yaml"
    assert "mapping" in refused.value.expected


def test_a_kind_is_refused_on_another_resources_topic() -> None:
    with pytest.raises(Refused) as refused:
        parse_resource(document("Dataset"), plural="jobs")
    assert refused.value.code == "wrong-kind"
    assert "FederatedTask" in refused.value.expected
    assert "Dataset" not in refused.value.expected


def test_the_other_wrong_fields_are_named_in_the_hint() -> None:
    tree = document("FederatedTask", rounds=0, quorum="x")
    change("spec/trainingWorkers/0/name", "A")(tree)
    with pytest.raises(Refused) as refused:
        parse_resource(tree)
    named = {refused.value.field, *refused.value.hint.removeprefix("Also wrong: ").rstrip(".").split(", ")}
    assert named == {"spec.rounds", "spec.quorum", "spec.trainingWorkers[0].name"}


def test_a_hostile_document_does_not_flood_the_reply() -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    for url in ({"a": "9" * 1_000_000}, ["x"] * 1_000_000, {"a": deep}, deep, 1 << 100_000):
        tree = document("Dataset")
        tree["spec"]["url"] = url
        with pytest.raises(Refused) as refused:
            parse_resource(tree)
        assert refused.value.field == "spec.url"
        assert len(str(refused.value)) < 500


def test_the_parser_does_not_change_its_input() -> None:
    tree = seed()
    parse_resource(tree)
    assert tree == seed()


def test_a_conditions_transition_time_moves_only_with_its_status() -> None:
    first = condition([], Condition(type="Ready", status="False", reason="Waiting"), "10:00")
    again = condition(first, Condition(type="Ready", status="False", reason="StillWaiting"), "10:01")
    assert [(each.reason, each.last_transition_time) for each in again] == [("StillWaiting", "10:00")]
    other = condition(again, Condition(type="Valid", status="True", reason="Checked"), "10:02")
    turned = condition(other, Condition(type="Ready", status="True", reason="Done"), "10:03")
    assert {each.type: each.last_transition_time for each in turned} == {"Valid": "10:02", "Ready": "10:03"}
