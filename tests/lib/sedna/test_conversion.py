"""Documents of Sedna: what becomes of them, and that nothing is lost without a word."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heliograph.bus.contract.registry import parse_resource
from heliograph.core.errors import HeliographError, Refused
from heliograph.inference.hard_samples.rules import RULES
from heliograph.sedna.conversion import Conversion, convert
from heliograph.sedna.settings import Settings
from heliograph.sedna.values import time_of_day, typed

DOCUMENTS = Path(__file__).parent / "documents"
SCRIPT = "trainScriptBootFile=train.py"


def converted(name: str, *given: str, edit: tuple[str, str] = ("", "")) -> Conversion:
    text = (DOCUMENTS / f"{name}.yaml").read_text()
    assert edit[0] in text
    return convert(text.replace(*edit) if edit[0] else text, name, Settings(given))


def of_kind(found: Conversion, kind: str) -> dict[str, Any]:
    return next(each for each in found.documents if each["kind"] == kind)


def findings(found: Conversion, what: str) -> str:
    return "\n".join(str(each) for each in found.findings if each.what == what)


def test_a_federated_job() -> None:
    found = converted("federated", SCRIPT)
    assert [each["kind"] for each in found.documents] == ["Dataset", "Dataset", "Model", "FederatedTask"]
    task = of_kind(found, "FederatedTask")
    assert task["metadata"] == {"name": "defects", "namespace": "plant", "labels": {"line": "7"},
                                "annotations": {"owner": "quality"}}  # fmt: skip
    spec = task["spec"]
    assert (spec["rounds"], spec["quorum"]) == (3, 2)
    assert spec["aggregationWorker"] == {"model": {"name": "defects"}}
    first, second = spec["trainingWorkers"]
    assert first["nodeName"] == "edge1"
    assert {each["key"]: each["value"] for each in first["workerSpec"]["parameters"]} == {
        "batch_size": 32, "learning_rate": 0.001, "augment": True, "lot": "007",
    }  # fmt: skip
    assert first["workerSpec"]["resources"] == {"memory": "512Mi", "gpus": 1}
    assert second["nodeName"] == "edge2-plant-example"
    assert second["workerSpec"]["trainScriptBootFile"] == "app/train.py"
    assert second["workerSpec"]["trainScriptArguments"] == ["--fast"]
    dropped = findings(found, "dropped")
    for path in ("Dataset/defects-2 spec.url", "credentialName", "env[4].valueFrom: no document holds a secret",
                 "resources.limits.memory", "resources.limits.cpu", "spec.pretrainedModel", "spec.transmitter",
                 "nodeSelector", "imagePullSecrets", "volumes", "volumeMounts", "parameter cut_off"):  # fmt: skip
        assert path in dropped


def test_an_image_alone_says_which_setting_is_missing() -> None:
    with pytest.raises(Refused) as refused:
        converted("federated")
    assert refused.value.topic == "federated:67"
    assert refused.value.field == "spec.trainingWorkers[0].template.spec.containers[0]"
    assert f"--set {SCRIPT.partition('=')[0]}=FILE" in refused.value.hint


def test_two_training_workers_on_one_node() -> None:
    edit = ("nodeName: edge2.plant.example\n          node", "nodeName: edge1\n          node")
    found = converted("federated", SCRIPT, edit=edit)
    first, second = of_kind(found, "FederatedTask")["spec"]["trainingWorkers"]
    assert first["nodeName"] == "edge1" and "nodeName" not in second
    assert "spec.trainingWorkers[1].template.spec.nodeName: left out: another worker names edge1" in findings(
        found, "changed"
    )


def test_a_node_is_renamed_everywhere() -> None:
    found = converted("federated", SCRIPT, "nodeName.edge2.plant.example=north", "nodeName.cloud-node=hub", "rounds=7")
    spec = of_kind(found, "FederatedTask")["spec"]
    assert spec["trainingWorkers"][1]["nodeName"] == "north"
    assert found.documents[1]["spec"]["nodeName"] == "north"
    assert spec["aggregationWorker"]["nodeName"] == "hub" and spec["rounds"] == 7
    assert "nodeName" not in findings(found, "changed")


def test_the_first_form_of_sednas_documents() -> None:
    text = """
apiVersion: sedna.io/v1alpha1
kind: FederatedLearningJob
metadata: {name: surface}
spec:
  aggregationWorker:
    name: aggregation
    model: {name: surface}
    nodeName: cloud
    workerSpec: {scriptDir: /code, scriptBootFile: aggregate.py, parameters: [{key: exit_round, value: "5"}]}
  trainingWorkers:
    - name: work-1
      nodeName: edge-1
      workerSpec:
        dataset: {name: surface-1}
        scriptDir: /code
        scriptBootFile: train.py
        frameworkType: tensorflow
        frameworkVersion: 1.18
        parameters: [{key: batch_size, value: "32"}]
"""
    found = convert(text, "old", Settings(()))
    spec = of_kind(found, "FederatedTask")["spec"]
    assert spec["rounds"] == 5
    assert spec["trainingWorkers"][0]["workerSpec"] == {
        "dataset": {"name": "surface-1"}, "trainScriptBootFile": "train.py", "trainScriptDir": "/code",
        "frameworkType": "tensorflow", "frameworkVersion": "1.18", "parameters": [{"key": "batch_size", "value": 32}],
    }  # fmt: skip
    dropped = findings(found, "dropped")
    assert "spec.aggregationWorker.workerSpec.scriptBootFile: the cloud's worker aggregates" in dropped
    assert "spec.aggregationWorker.workerSpec.scriptDir" in dropped


def test_a_service_of_the_first_form() -> None:
    text = """
apiVersion: sedna.io/v1alpha1
kind: JointInferenceService
metadata: {name: helmets}
spec:
  edgeWorker:
    name: edge
    nodeName: edge0
    model: {name: small}
    hardExampleAlgorithm: {name: IBT}
    workerSpec: {scriptBootFile: small.py, frameworkType: tensorflow, frameworkVersion: "1.18"}
"""
    found = convert(text, "old", Settings(()))
    spec = of_kind(found, "JointInferenceService")["spec"]
    assert spec["hardSampleRule"]["name"] == "ibt" and spec["edges"] == {"names": ["edge0"]}
    assert spec["edgeWorker"]["frameworkType"] == "tensorflow"
    assert "spec.edgeWorker.workerSpec.frameworkVersion" in findings(found, "dropped")
    assert "spec.edgeWorker.name: has no counterpart" in findings(found, "dropped")


def test_a_joint_service_with_both_workers_on_one_node() -> None:
    found = converted("joint")
    spec = of_kind(found, "JointInferenceService")["spec"]
    assert spec["edges"] == {"names": ["site-1"]} and "nodeName" not in spec["cloudWorker"]
    assert spec["hardSampleRule"]["name"] == "ibt"
    assert "cloud in place of site-1" in findings(found, "changed")
    placed = converted("joint", "nodeName.site-1=site-9")
    assert of_kind(placed, "JointInferenceService")["spec"]["cloudWorker"]["nodeName"] == "site-9"


@pytest.mark.parametrize(
    ("name", "parameters", "rule", "expected"),
    [
        ("CrossEntropy", {"threshold_cross_entropy": "0.9"}, "entropy", {"limit": 0.1}),
        ("CrossEntropy", {}, "entropy", {"limit": 0.5}),
        ("Random", {"random_ratio": "0.2"}, "random", {"share": 0.2}),
        ("IBT", {"threshold_img": "0.4"}, "ibt", {"threshold_img": 0.4, "threshold_box": 0.5}),
        ("IBT", {"threshold_img": "high"}, "ibt", {"threshold_img": 0.5, "threshold_box": 0.5}),
    ],
)
def test_hard_example_mining(name: str, parameters: dict[str, str], rule: str, expected: dict[str, float]) -> None:
    (document,) = yaml.safe_load_all((DOCUMENTS / "joint.yaml").read_text())
    document["spec"]["edgeWorker"]["hardExampleMining"] = {
        "name": name, "parameters": [{"key": key, "value": value} for key, value in parameters.items()],
    }  # fmt: skip
    found = convert(yaml.safe_dump(document), "one", Settings(()))
    made = of_kind(found, "JointInferenceService")["spec"]["hardSampleRule"]
    assert made["name"] == rule and rule in RULES
    assert {each["key"]: each["value"] for each in made["parameters"]} == expected
    assert ("threshold_img or threshold_box, from 0 to 1" in findings(found, "dropped")) == ("high" in str(parameters))


def test_a_rule_of_ones_own_is_dropped_by_name() -> None:
    found = converted("joint", edit=("name: IBT", "name: Mine"))
    assert "hardSampleRule" not in of_kind(found, "JointInferenceService")["spec"]
    assert "hardExampleMining.name: Mine is none of IBT, CrossEntropy, Random" in findings(found, "dropped")
    assert "hardExampleMining.parameters" in findings(found, "dropped")


def test_an_incremental_job() -> None:
    found = converted("incremental", "classes=helmet, none")
    kinds = [each["kind"] for each in found.documents]
    assert kinds == ["LabelQueue", "JointInferenceService", "IncrementalLearningJob"]
    assert found.documents[0]["spec"] == {"labelSchema": {"classes": ["helmet", "none"]}}
    job = of_kind(found, "IncrementalLearningJob")["spec"]
    assert job["train"] == {"checkSeconds": 60, "cron": "0 2 * * *", "newSamples": 501}
    assert job["gate"] == {"margin": 0.1} and job["evaluation"] == {"heldOut": 20}
    assert of_kind(found, "JointInferenceService")["spec"]["hardSamplesTo"] == "helmets"
    assert "timer.end" in findings(found, "dropped") and "spec.evalSpec" in findings(found, "dropped")
    assert f"--set {'classes'}=CLASS" in findings(converted("incremental"), "changed")


@pytest.mark.parametrize(
    ("start", "end", "cron"),
    [("02:00", "20:00", "0 2 * * *"), ("20:30", "24:00", "30 20 * * *"), ("00:00", "24:00", None),
     ('"22:15"', '"6:00"', "15 22 * * *"), ("150", "1440", "30 2 * * *")],
)  # fmt: skip
def test_times_that_yaml_reads_as_numbers(start: str, end: str, cron: str | None) -> None:
    found = converted("incremental", edit=("start: 02:00\n        end: 24:00", f"start: {start}\n        end: {end}"))
    assert of_kind(found, "IncrementalLearningJob")["spec"]["train"].get("cron") == cron


def test_a_time_that_is_none_is_refused_by_its_line() -> None:
    with pytest.raises(Refused, match=r"incremental:\d+ field spec.trainSpec.trigger.timer.start: expected a time"):
        converted("incremental", edit=("start: 02:00", "start: 25:00"))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [('{operator: ">=", threshold: 500, metric: num_of_samples}', 500),
     ('{operator: "<", threshold: 500, metric: num_of_samples}', None),
     ('{operator: ">", threshold: 0.5, metric: loss}', None)],
)  # fmt: skip
def test_a_condition(condition: str, expected: int | None) -> None:
    (document,) = yaml.safe_load_all((DOCUMENTS / "incremental.yaml").read_text())
    trigger = document["spec"]["trainSpec"]["trigger"]
    trigger["condition"], trigger["timer"] = yaml.safe_load(condition), None
    found = convert(yaml.safe_dump(document), "one", Settings(()))
    assert of_kind(found, "IncrementalLearningJob")["spec"]["train"].get("newSamples") == expected
    assert ("condition.metric: a round begins by" in findings(found, "dropped")) == (expected is None)


@pytest.mark.parametrize("kind", ["LifelongLearningJob", "ObjectTrackingService", "Deployment", None])
def test_another_kind_is_refused_by_name(kind: str | None) -> None:
    with pytest.raises(Refused) as refused:
        convert(yaml.safe_dump({"apiVersion": "sedna.io/v1alpha1", "kind": kind, "metadata": {"name": "a"}}), "f",
                Settings(()))  # fmt: skip
    assert refused.value.code == "unknown-kind" and "FederatedLearningJob" in refused.value.expected


def test_a_setting_that_nothing_uses_is_refused() -> None:
    with pytest.raises(Refused, match="--set rounds"):
        converted("joint", "rounds=3")
    with pytest.raises(Refused, match="NAME=VALUE"):
        Settings(["script=train.py"])


def mappings(tree: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each mapping whose fields a converter looks at, with its path: names of labels are anybody's."""
    if isinstance(tree, dict) and not path.startswith("metadata."):
        yield path, tree
        for key, value in tree.items():
            yield from mappings(value, f"{path}.{key}" if path else key)
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from mappings(value, f"{path}[{number}]")


@pytest.mark.parametrize("name", ["federated", "joint", "incremental"])
def test_each_unknown_field_is_reported_wherever_it_stands(name: str) -> None:
    """A field that no converter knows is added to each mapping in turn; it, or what it lies in, is reported."""
    for document in yaml.safe_load_all((DOCUMENTS / f"{name}.yaml").read_text()):
        for number in range(len(list(mappings(document)))):
            changed = copy.deepcopy(document)
            folder, place = list(mappings(changed))[number]
            place["unheardOf"] = 1
            given = [SCRIPT] if document["kind"] == "FederatedLearningJob" else []
            found = convert(yaml.safe_dump(changed), name, Settings(given))
            paths = [each.path.partition(" ")[2] for each in found.findings if each.what == "dropped"]
            wanted = f"{folder}.unheardOf".lstrip(".")
            assert any(wanted == path or wanted.startswith((f"{path}.", f"{path}[")) for path in paths), wanted


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=8)
    | st.sampled_from(["inf", "nan", "1e999", "24:61", "-", "..", "s3://x", "²"]),
    lambda each: st.lists(each, max_size=2) | st.dictionaries(st.text(max_size=4), each, max_size=2),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), name=st.sampled_from(["federated", "joint", "incremental"]), value=JUNK)
def test_any_value_anywhere_is_converted_or_refused(data: st.DataObject, name: str, value: Any) -> None:
    documents = list(yaml.safe_load_all((DOCUMENTS / f"{name}.yaml").read_text()))
    place: Any = documents
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = value
            break
        place = place[key]
    try:
        found = convert(yaml.safe_dump_all(documents), name, Settings([SCRIPT] if name == "federated" else []))
    except HeliographError:
        return
    for each in found.documents:
        parse_resource(each)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**17), 10**17) | st.booleans())
def test_a_parameters_text_is_its_value(value: float) -> None:
    assert typed(str(value)) == value and type(typed(str(value))) is type(value)


@pytest.mark.parametrize("text", ["007", "24:00", "0x10", "1_000", "1e999", "", "yes", "416,736", "²", "+1"])
def test_what_only_looks_like_a_number_stays_text(text: str) -> None:
    assert typed(text) == text


@given(st.integers(0, 99), st.integers(0, 99))
def test_times_of_day(hour: int, minute: int) -> None:
    found = time_of_day(f"{hour}:{minute:02}")
    assert found == ((hour, minute) if (hour < 24 and minute < 60) or (hour, minute) == (24, 0) else None)
