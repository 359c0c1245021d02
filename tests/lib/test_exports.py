"""Exports of a version: a folder that its signature covers, an OCI layout, and what is wrong with a changed one."""

from __future__ import annotations

import json
import sys
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.model_requests import ModelExport
from heliograph.bus.contract.model_statement import bundle_of, record_of, signed
from heliograph.bus.contract.resources import ModelLabels, ModelVersion, TensorSchema, WeightsRef
from heliograph.bus.contract.weights_file import dumps
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.signing import Signer
from heliograph.core.world import World
from heliograph.exports import write_export
from heliograph.exports.folder import verify_folder
from heliograph.exports.mlflow import register

CONTENT = dumps({"w": np.arange(4000, dtype=np.float32), "n": np.zeros(2, np.int64)})
LABELS = ModelLabels(version=2, classes=["nought", "one"])


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer.made(World())


def _export(signer: Signer | None) -> ModelExport:
    weights = WeightsRef(digest=sha256(CONTENT).hexdigest(), size=len(CONTENT), bucket="models")
    version = ModelVersion(
        version=3, weights=weights, job_name="digits", round=7, metrics={"accuracy": 0.9}, code={"c" * 64: 2},
        time="2026-01-01T00:00:00.000000Z", licence="Apache-2.0", description="Zwölf Ziffern",
        inputs=[TensorSchema(dtype="float32", shape=[-1, 64])],
    )  # fmt: skip
    if signer is not None:
        version = signed("digits", version, LABELS, signer)
    record = record_of("digits", version, LABELS)
    return ModelExport(name="digits", version=version, record=record, labels=LABELS, framework="torch")


def _written(directory: Path, form: str, signer: Signer | None) -> Path:
    weights = directory / "weights"
    weights.write_bytes(CONTENT)
    target = write_export(_export(signer), weights, directory / "inner" / form, form)
    assert sorted(path.name for path in target.parent.iterdir()) == [form] and not weights.exists()
    return target


def test_a_folder_holds_what_its_signature_covers(signer: Signer, tmp_path: Path) -> None:
    folder = _written(tmp_path, "folder", signer)
    assert verify_folder(folder, {signer.key_id: signer.public_key}) == "digits"
    record = json.loads((folder / "model.json").read_text())
    assert (record["model"], record["version"], record["description"]) == ("digits", 3, "Zwölf Ziffern")
    assert record["labels"] == {"version": 2, "classes": ["nought", "one"]} and "signature" not in record
    bundle = json.loads((folder / "model.sig").read_text())
    assert bundle["verificationMaterial"]["publicKey"]["hint"] == signer.key_id
    with pytest.raises(Refused, match="signature by a trusted key"):
        verify_folder(folder, {"x": Signer.made(World()).public_key})


@pytest.mark.parametrize(("file", "change", "code"), [
    ("model.safetensors", lambda content: content[:-1] + b"x", "damaged"),
    ("model.json", lambda content: content.replace(b"0.9", b"1.0"), "damaged"),
    ("model.sig", lambda content: content.replace(b"payload", b"nothing"), "bad-signature"),
    ("model.sig", lambda content: b"[1]", "bad-signature"),
    ("model.sig", lambda content: b"[" * 100_000, "bad-signature"),
    ("model.sig", lambda content: b"\xff", "bad-signature"),
    ("more.py", lambda content: b"import os", "bad-signature"),
    ("model.json", None, "bad-signature"),
    ("model.sig", None, "bad-signature"),
])  # fmt: skip
def test_a_changed_folder_is_refused(signer: Signer, tmp_path: Path, file: str, change: Any, code: str) -> None:
    folder = _written(tmp_path, "folder", signer)
    place = folder / file
    if change is None:
        place.unlink()
    else:
        place.write_bytes(change(place.read_bytes() if place.exists() else b""))
    with pytest.raises(Refused) as refused:
        verify_folder(folder, {signer.key_id: signer.public_key})
    assert (refused.value.code, refused.value.topic) == (code, str(folder))


def test_a_signature_of_another_folder_is_refused(signer: Signer, tmp_path: Path) -> None:
    folder = _written(tmp_path, "folder", signer)
    envelope = signer.sign("application/vnd.in-toto+json", b'{"_type": 1, "predicateType": 2}')
    (folder / "model.sig").write_text(json.dumps(bundle_of(envelope)))
    with pytest.raises(Refused, match="another statement"):
        verify_folder(folder, {signer.key_id: signer.public_key})


def test_without_a_key_there_is_no_signature(tmp_path: Path) -> None:
    folder = _written(tmp_path, "folder", None)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    with pytest.raises(Refused, match="expected a signature, the file model"):
        verify_folder(folder, {})


def test_an_oci_layout_is_a_model_artifact_with_its_signature(signer: Signer, tmp_path: Path) -> None:
    layout = _written(tmp_path, "oci", signer)
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    blobs = layout / "blobs" / "sha256"
    for blob in blobs.iterdir():
        with blob.open("rb") as content:
            assert file_digest(content, "sha256").hexdigest() == blob.name

    def read(descriptor: dict[str, Any]) -> Any:
        content = (blobs / descriptor["digest"].removeprefix("sha256:")).read_bytes()
        assert len(content) == descriptor["size"]
        return json.loads(content)

    index = json.loads((layout / "index.json").read_text())
    model, signature = index["manifests"]
    assert model["annotations"] == {"org.opencontainers.image.ref.name": "v3"}
    manifest = read(model)
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    weights, record = manifest["layers"]
    assert (weights["mediaType"], weights["digest"]) == ("application/vnd.cncf.model.weight.v1.raw",
                                                         f"sha256:{sha256(CONTENT).hexdigest()}")  # fmt: skip
    assert record["annotations"]["org.cncf.model.filepath"] == "model.json"
    config = read(manifest["config"])
    assert config["descriptor"] == {"createdAt": "2026-01-01T00:00:00.000000Z", "name": "digits", "version": "3",
                                    "description": "Zwölf Ziffern", "revision": "c" * 64,
                                    "licenses": ["Apache-2.0"]}  # fmt: skip
    assert config["config"] == {"format": "safetensors", "paramSize": "4K", "precision": "float32,int64"}
    assert config["modelfs"]["diffIds"] == [weights["digest"], record["digest"]]
    attached = read(signature)
    assert attached["subject"]["digest"] == model["digest"]
    assert read(attached["layers"][0])["verificationMaterial"]["publicKey"]["hint"] == signer.key_id
    assert len({each["digest"] for each in (model, signature, weights, record)}) == 4


def test_an_export_writes_all_or_nothing(signer: Signer, tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.mkdir()
    weights = tmp_path / "weights"
    weights.write_bytes(b"no safetensors")
    for form in ("folder", "oci"):
        with pytest.raises(Refused) as refused:
            write_export(_export(signer), weights, target, form)
        assert refused.value.code in ("exists", "bad-weights")
    with pytest.raises(Refused, match="safetensors"):
        write_export(_export(signer), weights, tmp_path / "new", "oci")
    assert not (tmp_path / "new").exists() and list(target.iterdir()) == []
    with pytest.raises(Refused, match="folder or oci"):
        write_export(_export(signer), weights, tmp_path / "new", "zip")


def test_mlflow_gets_a_version_once(
    signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framework: Any
) -> None:
    """Its file store stands for its server, which has the same interface."""
    mlflow = framework("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"file://{tmp_path / 'store'}"
    for number in (1, 2):
        place = tmp_path / f"{number}"
        place.mkdir()
        made = register(_export(signer), _written(place, "folder", signer), uri, "digits")
        assert made == "models:/digits/1"
    client = mlflow.MlflowClient(uri, uri)
    version = client.get_model_version("digits", "1")
    run = client.get_run(version.run_id)
    assert (run.data.metrics["accuracy"], run.data.params["job"]) == (0.9, "digits")
    files = {Path(each.path).name for each in client.list_artifacts(version.run_id, "model")}
    assert files == {"MLmodel", "model.json", "model.safetensors", "model.sig"}


def test_without_mlflow_the_hint_says_what_to_install(
    signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", None)
    with pytest.raises(HeliographError, match="pip install"):
        register(_export(signer), tmp_path, "", "digits")
