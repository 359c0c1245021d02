"""``get``: tables for people and for programs, JSON and YAML; every kind, even without resources."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from heliograph.bus.contract.weights_file import TensorFile, dumps

pytestmark = pytest.mark.asyncio(loop_scope="module")

COLUMNS = {
    "jobs": "NAME PHASE ROUND EDGES METRICS AGE NOTE",
    "services": "NAME PHASE EDGES REQUESTS OFFLOAD AGREEMENT P50 P99 AGE NOTE",
    "edges": "NAME STATE SINCE DATASETS FRAMEWORKS WORKERS WAITING GROUP LABELS NOTE",
    "models": "NAME VERSION ROUND SIZE DIGEST METRICS AGE DESCRIPTION",
    "datasets": "NAME EDGES SAMPLES WAITING VERSION FORMAT COLUMNS NOTE",
    "algorithms": "NAME EDGES PARAMETERS PACKAGE SIGNED DESCRIPTION NOTE",
}
SERVICE = """
kind: JointInferenceService
metadata: {name: seen}
spec:
  edgeWorker: {model: {name: s}, scriptBootFile: edge.py}
  cloudWorker: {model: {name: s}, scriptBootFile: deep.py}
"""
DATASET = "kind: Dataset\nmetadata: {name: digits}\nspec: {nodeName: edge-9, url: digits.npz}\n"


async def test_empty_lists_are_empty_in_each_form(cli: Any) -> None:
    for plural in ("jobs", "services", "models", "datasets"):  # runs before the tests below create resources
        table = await cli("get", plural)
        as_json, as_yaml = await cli("get", plural, "-o", "json"), await cli("get", plural, "-o", "yaml")
        assert (table.code, table.out, table.err) == (0, "", f"there are no {plural}\n")
        assert (as_json.code, json.loads(as_json.out), as_json.err) == (0, [], "")
        assert (as_yaml.code, as_yaml.out, as_yaml.err) == (0, "", "")


async def test_every_kind_in_each_form(cli: Any, job: Any) -> None:
    pending = job("shown", participants="all").replace("edge-1", "edge-9")
    assert (await cli("apply", "-f", "-", stdin=pending)).code == 0
    assert (await cli("apply", "-f", "-", stdin=DATASET)).code == 0
    applied = await cli("apply", "-f", "-", stdin=SERVICE)
    assert applied.out == "service/seen created (Pending): model s does not exist\n"
    for plural, columns in COLUMNS.items():
        table = await cli("get", plural)
        as_json, as_yaml = await cli("get", plural, "-o", "json"), await cli("get", plural, "-o", "yaml")
        head, *rows = table.out.splitlines()
        assert head.split() == columns.split()
        documents = json.loads(as_json.out)
        assert documents, plural
        assert list(documents[0])[:3] == ["apiVersion", "kind", "metadata"]
        assert [row.split()[0] for row in rows] == [each["metadata"]["name"] for each in documents]
        assert all(len(row.split()) >= len(columns.split()) - 1 for row in rows)  # '-' stands for nothing
        in_yaml = list(yaml.safe_load_all(as_yaml.out))
        assert [each["metadata"] for each in in_yaml] == [each["metadata"] for each in documents]
        assert [each["spec"] for each in in_yaml] == [each["spec"] for each in documents]


async def test_one_resource_in_every_spelling_of_its_name(cli: Any) -> None:
    for words in (["edges/edge-1"], ["edges", "edge-1"], ["edge/edge-1"], ["edge", "edge-1"]):
        ran = await cli("get", *words)
        assert (ran.code, ran.err) == (0, "")
        _, row = ran.out.splitlines()
        assert row.split()[:2] == ["edge-1", "online"]
    one = json.loads((await cli("get", "edge/edge-1", "-o", "json")).out)
    assert (one["kind"], one["metadata"]["name"]) == ("Edge", "edge-1")
    assert yaml.safe_load((await cli("get", "edge/edge-1", "-o", "yaml")).out)["status"]["online"] is True


async def test_the_error_for_an_unknown_name_lists_the_known_ones(cli: Any) -> None:
    ran = await cli("get", "edges", "edge-7")
    assert (ran.code, ran.out) == (4, "")
    assert ran.error == "edge/edge-7: expected one of cloud, edge-1, got edge-7. List them with 'heliograph get edges'."
    for words in (["delete", "models/nope"], ["stop", "jobs/nope"], ["watch", "jobs/nope"]):
        ran = await cli(*words)
        assert ran.code == 4
        assert ran.error.startswith(f"{words[1].replace('s/', '/')}: expected ")


async def test_several_kinds_and_several_names(cli: Any) -> None:
    edges = json.loads((await cli("get", "edges", "-o", "json")).out)
    both = ["edge/cloud", "edge/edge-1"]
    for words in (["edges", "cloud", "edge-1"], ["edge/cloud", "edges/edge-1"], ["edges", "cloud", "edge-1", "cloud"]):
        assert (await cli("get", *words, "-o", "name")).out.split() == both, words
    await cli("apply", "-f", "-", stdin=json.dumps({"kind": "Model", "metadata": {"name": "beside"}, "spec": {}}))
    ran = await cli("get", "edges,models,quarantines")
    tables = ran.out.split("\n\n")
    assert [("edge-1" in table, "beside" in table) for table in tables] == [(True, False), (False, True)]
    assert ran.err == ""  # nothing is said of a kind of which there is none beside others
    listed = json.loads((await cli("get", "edges,models", "-o", "json")).out)
    assert len(listed) > len(edges)
    assert {each["kind"] for each in listed} == {"Edge", "Model"}
    one = await cli("get", "edges", "cloud", "edge-1", "-o", "jsonpath={.items[*].metadata.name}")
    assert one.out == "cloud edge-1"
    none = await cli("get", "quarantines,labels")
    assert (none.code, none.out, none.err.strip()) == (0, "", "there are no quarantines and no labels")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["edges/cloud", "edge-1"], "each as KIND/NAME"),
        (["edges,models", "-w"], "one kind, or one resource"),
        (["edges", "cloud", "edge-1", "-w"], "one kind, or one resource"),
        (["edges,nothing"], "got nothing"),
        (["edges,"], "KIND"),
        (["edges", "cloud", "edge-1", "-l", "a=b"], "a kind alone"),
    ],
)
async def test_what_names_no_kinds_and_names(cli: Any, words: list[str], expected: str) -> None:
    ran = await cli("get", *words)
    assert (ran.code, ran.out) == (2, "")
    assert expected in ran.error


async def test_one_unknown_name_among_several_prints_nothing(cli: Any) -> None:
    ran = await cli("get", "edges", "cloud", "edge-7")
    assert (ran.code, ran.out) == (4, "")
    assert ran.error.startswith("edge/edge-7: expected one of")


async def test_get_works_over_mqtt_as_over_nats(cli: Any, cluster: Any) -> None:
    by_nats = await cli("get", "edges", "-o", "json")
    by_mqtt = await cli("get", "edges", "-o", "json", "--server", cluster.door)
    assert by_mqtt.code == 0
    assert json.loads(by_mqtt.out) == json.loads(by_nats.out)


async def test_15_models_are_uploaded_and_downloaded_as_files(cli: Any, job: Any, tmp_path: Path) -> None:
    for name, size in (("small", 3), ("large", 100_000)):
        file, back = tmp_path / f"{name}.safetensors", tmp_path / f"{name}-back.safetensors"
        file.write_bytes(dumps({"w": np.arange(size, dtype=np.float32)}))
        ran = await cli("models", "upload", name, file)
        assert ran.out.startswith(f"model/{name} version 1 is {file}: "), ran
        assert (await cli("models", "upload", name, file)).out == ran.out  # again the same changes nothing
        ran = await cli("models", "download", name, "--out", back)
        assert (ran.code, back.read_bytes()) == (0, file.read_bytes()), ran
    start = job("from-small").replace("of-from-small", "small")
    assert (await cli("apply", "-f", "-", stdin=json.dumps(json.loads(start)[1:]))).code == 0
    assert (await cli("watch", "jobs/from-small")).code == 0
    for words, value in (([], 2.0), (["--version", "2"], 2.0), (["--version", "1"], 0.0)):
        ran = await cli("models", "download", "models/small", *words, "--out", tmp_path / "deep" / "out.safetensors")
        assert ran.code == 0, ran
        with TensorFile(tmp_path / "deep" / "out.safetensors") as model:
            assert model.numpy("w")[0] == value


async def test_what_cannot_be_uploaded_or_downloaded_is_one_line(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "no.safetensors").write_text("no weights")
    refused = {
        ("upload", "other", tmp_path / "no.safetensors"): "no.safetensors: expected a safetensors header",
        ("upload", "other", tmp_path / "none.safetensors"): "none.safetensors: No such file",
        ("upload", "small", tmp_path / "small.safetensors", "--parent", "7"): "field parent: expected 1, 2, got 7",
        ("download", "small", "--version", "7"): "model/small field version: expected 1, 2, got 7",
        ("download", "none"): "model/none: expected one of",
    }
    (tmp_path / "small.safetensors").write_bytes(dumps({"w": np.zeros(3, np.float32)}))
    for words, error in refused.items():
        ran = await cli("models", *words)
        missing = words[-1] == "7" or words[0] == "download"
        assert (ran.code, error in ran.error) == (4 if missing else 1, True), (words, ran)
    assert (await cli("models", "upload", "Bad_Name", tmp_path / "small.safetensors")).code == 2


async def test_each_form_that_kubectl_has(cli: Any) -> None:
    names = json.loads((await cli("get", "edges", "-o", "json")).out)
    names = [each["metadata"]["name"] for each in names]
    assert (await cli("get", "edges", "-o", "name")).out.split() == [f"edge/{name}" for name in names]
    assert (await cli("get", "edges", "-o", "jsonpath={.items[*].metadata.name}")).out == " ".join(names)
    assert (await cli("get", "edges/edge-1", "-o", "jsonpath={.kind}{'\\n'}")).out == "Edge\n"
    head, *rows = (await cli("get", "edges", "-o", "wide", "--show-labels")).out.splitlines()
    assert head.split()[-11:] == [
        "FORMATS", "NODE", "AGENT", "OBSERVED", "DROPPED", "REFUSED", "ANOMALOUS", "PROJECT", "CREATED-BY",
        "GENERATION", "LABELS",
    ]  # fmt: skip
    assert len(rows) == len(names)
    bare = await cli("get", "edges", "--no-headers", "--sort-by", "{.metadata.name}")
    assert [row.split()[0] for row in bare.out.splitlines()] == sorted(names)


async def test_a_list_is_sorted_by_numbers_and_texts(cli: Any) -> None:
    models = [
        {"kind": "Model", "metadata": {"name": name}, "spec": {"description": text}}
        for name, text in (("sort-a", "z"), ("sort-b", ""), ("sort-c", "m"))
    ]
    assert (await cli("apply", "-f", "-", stdin=json.dumps(models))).code == 0
    for path, order in ((".spec.description", "bca"), (".metadata.name", "abc"), (".spec.nothing", "abc")):
        ran = await cli("get", "models", "-o", "name", "--sort-by", path)
        assert [name[-1] for name in ran.out.split() if "sort-" in name] == [*order], path


async def test_changes_are_followed(cli: Any, read_until: Any) -> None:
    model = "kind: Model\nmetadata: {name: %s}\nspec: {description: %s}\n"
    await cli("apply", "-f", "-", stdin=model % ("seen", "first"))
    rows = await cli.start("get", "models", "-w")
    named = await cli.start("get", "models/seen", "-w", "--output-watch-events", "-o", "name")
    others = await cli.start("get", "models", "-w", "-l", "hue=red", "--output-watch-events", "--no-headers")
    assert (await read_until(rows.stdout, "NAME")).split()[:2] == ["NAME", "VERSION"]
    assert "first" in await read_until(rows.stdout, "seen")
    assert await read_until(named.stdout, "") == "ADDED     model/seen"
    await cli("apply", "-f", "-", stdin=model % ("seen", "second"))
    assert "second" in await read_until(rows.stdout, "seen")
    assert await read_until(named.stdout, "") == "MODIFIED  model/seen"
    await cli("delete", "models/seen")
    assert await read_until(rows.stdout, "seen") == "model/seen deleted"
    assert await read_until(named.stdout, "") == "DELETED   model/seen"
    assert await named.wait() == 0  # there is nothing more to follow
    red = "kind: Model\nmetadata: {name: other, labels: {hue: %s}}\n"
    for hue, event in (("red", "ADDED"), ("blue", "DELETED"), ("red", "ADDED")):
        await cli("apply", "-f", "-", stdin=red % hue)
        assert (await read_until(others.stdout, "")).split()[:2] == [event, "other"]
    for process in (rows, others):
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    assert (await cli("get", "models/nope", "-w")).code == 4


async def test_labels_select(cli: Any) -> None:
    documents = [
        {"kind": "Model", "metadata": {"name": f"lab-{name}", "labels": labels}}
        for name, labels in (("a", {"env": "prod", "tier": "1"}), ("b", {"env": "stage"}), ("c", {}))
    ]
    assert (await cli("apply", "-f", "-", stdin=json.dumps(documents))).code == 0
    selected = {
        "env=prod": "a", "env==stage": "b", "env in (prod, stage)": "ab", "env,!tier": "b", "tier!=1,env": "b",
        "env notin (prod),env": "b", "tier": "a",
    }  # fmt: skip
    for selector, names in selected.items():
        ran = await cli("get", "models", "-l", selector, "-o", "name")
        assert [line[-1] for line in ran.out.split() if "lab-" in line] == [*names], selector
    shown = (await cli("get", "models", "-l", "env=prod", "--show-labels", "--no-headers")).out.split()
    assert (shown[0], shown[-1]) == ("lab-a", "env=prod,tier=1")


async def test_an_old_version_is_a_conflict_that_names_both_values(cli: Any) -> None:
    model = {"kind": "Model", "metadata": {"name": "edited"}, "spec": {"description": "first"}}
    await cli("apply", "-f", "-", stdin=json.dumps(model))
    seen = json.loads((await cli("get", "models/edited", "-o", "json")).out)
    await cli("apply", "-f", "-", stdin=json.dumps(model | {"spec": {"description": "theirs"}}))
    mine = seen | {"spec": {"description": "mine"}}
    mine.pop("status")
    mine["metadata"] |= {"uid": "", "creationTimestamp": "", "createdBy": ""}
    ran = await cli("apply", "-f", "-", stdin=json.dumps(mine))
    assert (ran.code, ran.out) == (7, "")
    assert "spec.description is theirs there and mine here" in ran.error
    tried = await cli("delete", "models/edited", "--dry-run")
    assert (tried.code, tried.out) == (0, "model/edited deleted (dry run)\n")
    assert (await cli("get", "models/edited", "-o", "jsonpath={.spec.description}")).out == "theirs"


async def test_a_description_has_the_resource_and_its_events(cli: Any) -> None:
    shown = await cli("describe", "jobs/from-small")
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert lines[0] == "Name:             from-small"
    assert "  phase: Succeeded" in lines
    assert ["Complete", "True"] in [line.split()[:2] for line in lines]
    assert any("aggregation" in line and "round=1" in line for line in lines), shown.out
    everyone = await cli("describe", "edges", "--no-events")
    assert everyone.out.count("Kind:             Edge") == 2
    assert (await cli("describe", "jobs/nope")).code == 4


async def test_events_and_workers_of_a_job(cli: Any, cluster: Any) -> None:
    ran = await cli("events", "jobs/from-small", "--since", "10m", "--types", "aggregation", "-o", "json")
    closed = [json.loads(line) for line in ran.out.splitlines()]
    assert [each["data"]["round"] for each in closed] == [1, 2]
    assert {each["topic"] for each in closed} == {"event/aggregation/from-small"}
    ran = await cli("events", "edges", "edge-1")
    assert "model-update" in ran.out
    none = await cli("events", "jobs/nobody")
    assert (none.code, none.out, none.err) == (0, "", "there are no events since 1h\n")
    by_mqtt = await cli("events", "--server", cluster.door)
    assert (by_mqtt.code, "expected a nats:// server, whose streams have the past" in by_mqtt.error) == (1, True)
    ran = await cli("worker", "jobs/shown", "-o", "json")
    assert (ran.code, json.loads(ran.out)) == (0, [])
    ran = await cli("worker", "edges/edge-1")
    assert ran.code == 0
    denied = await cli("worker", "--server", cluster.broker.url())
    assert denied.code == 6
