"""``get``: tables for people and for programs, JSON and YAML; every kind, even without resources."""

from __future__ import annotations

import json
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
    "edges": "NAME STATE SINCE DATASETS FRAMEWORKS WORKERS WAITING LABELS NOTE",
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
    assert (ran.code, ran.out) == (1, "")
    assert ran.error == "edge/edge-7: expected one of cloud, edge-1, got edge-7. List them with 'heliograph get edges'."
    for words in (["delete", "models/nope"], ["stop", "jobs/nope"], ["watch", "jobs/nope"]):
        ran = await cli(*words)
        assert ran.code == 1
        assert ran.error.startswith(f"{words[1].replace('s/', '/')}: expected ")


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
        assert ran.out.startswith(f"model/{name} starts from {file}: "), ran
        assert (await cli("models", "upload", name, file)).out == ran.out  # again the same changes nothing
        ran = await cli("models", "download", name, "--out", back)
        assert (ran.code, back.read_bytes()) == (0, file.read_bytes()), ran
    start = job("from-small").replace("of-from-small", "small")
    assert (await cli("apply", "-f", "-", stdin=json.dumps(json.loads(start)[1:]))).code == 0
    assert (await cli("watch", "jobs/from-small")).code == 0
    for words, value in (([], 2.0), (["--version", "1"], 2.0), (["--version", "0"], 0.0)):
        ran = await cli("models", "download", "models/small", *words, "--out", tmp_path / "deep" / "out.safetensors")
        assert ran.code == 0, ran
        with TensorFile(tmp_path / "deep" / "out.safetensors") as model:
            assert model.numpy("w")[0] == value


async def test_what_cannot_be_uploaded_or_downloaded_is_one_line(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "no.safetensors").write_text("no weights")
    refused = {
        ("upload", "other", tmp_path / "no.safetensors"): "no.safetensors: expected a safetensors header",
        ("upload", "other", tmp_path / "none.safetensors"): "none.safetensors: No such file",
        ("upload", "small", tmp_path / "small.safetensors"): "model/small: expected a model without trained versions",
        ("download", "small", "--version", "7"): "model/small field version: expected 0, 1, got 7",
        ("download", "none"): "model/none: expected one of",
    }
    (tmp_path / "small.safetensors").write_bytes(dumps({"w": np.zeros(3, np.float32)}))
    for words, error in refused.items():
        ran = await cli("models", *words)
        assert (ran.code, error in ran.error) == (1, True), (words, ran)
    assert (await cli("models", "upload", "Bad_Name", tmp_path / "small.safetensors")).code == 2
