"""Errors in a file name file, line and field before any request is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heliograph.cli.printing.documents import read_documents
from heliograph.core.errors import HeliographError

TASK = """\
kind: FederatedTask
metadata:
  name: one
spec:
  aggregationWorker:
    model: {name: m}
  trainingWorkers:
    - name: w
      workerSpec:
        parameters:
          - key: k
            value: 1e-3
"""
LABEL = "a DNS label: a-z, 0-9 and '-', at most 63 characters, not starting or ending with '-'"


def _error(tmp_path: Path, content: str | bytes, name: str = "a.yaml") -> str:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(HeliographError) as refused:
        read_documents(str(file))
    return str(refused.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.yaml: expected a document with kind, metadata and spec, got an empty file"),
        ("# nothing\n---\n---\n", "a.yaml: expected a document with kind, metadata and spec, got an empty file"),
        ("kind: Mode\nmetadata: {name: x}", "a.yaml:1 field kind: expected FederatedTask or JointInference"),
        ("\nmetadata: {name: x}", "a.yaml:2 field kind: expected FederatedTask or"),
        ("kind: Edge\nmetadata: {name: x}", "a.yaml:1 field kind: expected FederatedTask or JointInference"),
        ("kind: Model\nmetadata: {name: Bad_Name}", f"a.yaml:2 field metadata.name: expected {LABEL}, got Bad_Name"),
        ("kind: Model\nmetadata:\n  name: 3", "a.yaml:3 field metadata.name: expected a valid string, got 3"),
        ("kind: Model", "a.yaml:1 field metadata: expected a value, got nothing"),
        (
            "kind: Model\nmetadata: {name: x}\nspec:\n  descriptoin: y",
            "a.yaml:4 field spec.descriptoin: expected no such field, got y. "
            "The fields here are weights, framework, description",
        ),
        (TASK + "            unit: s\n", "a.yaml:13 field spec.trainingWorkers[0].workerSpec.parameters[0].unit:"),
        (TASK.replace("spec:\n", "spec:\n  rounds: 0\n"), "a.yaml:5 field spec.rounds: expected greater than or eq"),
        (TASK.replace("{name: m}", "m"), "a.yaml:6 field spec.aggregationWorker.model: expected"),
        ("just text", "a.yaml:1: expected a mapping with apiVersion, kind, metadata and spec, got just text"),
        ("kind: Model\nkind: Model", "a.yaml:2 field kind: expected each field once, got the same field again"),
        ("kind: Model\nmetadata: {name", "a.yaml:2: not YAML: "),
        ("kind: !!python/object:os.system {}", "a.yaml:1: not YAML: "),
        ("a: &a [*a]", "a.yaml:1: expected a tree, got an alias inside itself"),
        ("[" * 500, "a.yaml:1: not YAML: nested too deeply"),
        (b"kind: Model\nmetadata: {name: \xff}", "a.yaml:2: expected text in UTF-8, got other bytes"),
    ],
)  # fmt: skip
def test_the_error_names_line_and_field(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert _error(tmp_path, content).startswith(message)


def test_the_error_for_an_unknown_field_lists_the_known_ones(tmp_path: Path) -> None:
    message = _error(tmp_path, TASK + "            unit: s\n")
    assert message.endswith("The fields here are key, value.")
    message = _error(tmp_path, TASK.replace("model:", "modle: x\n    model:"))
    assert message.endswith("The fields here are name, nodeName, model, workerSpec.")


def test_errors_in_json_name_the_line_too(tmp_path: Path) -> None:
    assert _error(tmp_path, '{"kind": "Model",}', "a.json").startswith("a.json:1: not JSON: ")
    tree = json.dumps({"kind": "Model", "metadata": {"name": "x"}, "spec": {"size": 1}}, indent=2)
    assert _error(tmp_path, tree, "a.json").startswith("a.json:7 field spec.size: expected no such field, got 1.")


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    one = "kind: Model\nmetadata:\n  name: one\n"
    assert _error(tmp_path, f"{one}---\n{one}") == (
        "a.yaml:7 field metadata.name: expected another name than the one in line 3, got one"
    )
    other = "---\nkind: Dataset\nmetadata:\n  name: one\n"  # another kind makes another resource
    (tmp_path / "a.yaml").write_text(one + other)
    assert [each.resource.plural for each in read_documents(str(tmp_path / "a.yaml"))] == ["models", "datasets"]


def test_values_have_the_types_of_json(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TASK.replace("1e-3", "1e-3, key: b").replace("key: k\n            ", "{").replace(
        "1e-3, key: b", "2026-11-21, key: d}"
    ))  # fmt: skip
    (document,) = read_documents(str(tmp_path / "a.yaml"))
    worker = document.tree["spec"]["trainingWorkers"][0]["workerSpec"]
    assert worker["parameters"] == [{"value": "2026-11-21", "key": "d"}]  # no date
    (tmp_path / "a.yaml").write_text(TASK)
    (document,) = read_documents(str(tmp_path / "a.yaml"))
    assert document.tree["spec"]["trainingWorkers"][0]["workerSpec"]["parameters"][0]["value"] == 0.001


def test_a_list_is_several_documents(tmp_path: Path) -> None:
    models = [{"kind": "Model", "metadata": {"name": name}} for name in ("one", "two")]
    (tmp_path / "a.json").write_text(json.dumps(models, indent=1))
    assert [each.resource.name for each in read_documents(str(tmp_path / "a.json"))] == ["one", "two"]
    models[1]["metadata"] = {"name": "Two"}
    assert _error(tmp_path, json.dumps(models, indent=1), "a.json").startswith(
        "a.json:11 field metadata.name: expected"
    )


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for file, why in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(HeliographError) as refused:
            read_documents(str(file))
        assert str(refused.value) == f"cannot read {file}: {why}"
