"""A version as an OCI image layout with a model artifact of the CNCF ModelPack specification.

``oras cp --from-oci-layout FOLDER:TAG registry.example/model:TAG`` or ``skopeo copy oci:FOLDER:TAG docker://…`` pushes
it. The signature is an artifact of its own, whose subject is the model's manifest.
Specifications: https://github.com/modelpack/model-spec and https://github.com/opencontainers/image-spec.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heliograph.bus.contract.model_requests import ModelExport
from heliograph.bus.contract.model_statement import BUNDLE, RECORD_FILE, SIGNATURE_FILE, bundle_of, weights_file
from heliograph.bus.contract.weights_header import Tensor, read_header
from heliograph.exports.folder import new_folder

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_MODEL = "application/vnd.cncf.model.manifest.v1+json"
_CONFIG = "application/vnd.cncf.model.config.v1+json"
_WEIGHTS = "application/vnd.cncf.model.weight.v1.raw"
_RECORD = "application/vnd.cncf.model.doc.v1.raw"
_EMPTY = "application/vnd.oci.empty.v1+json"
_FILE_PATH = "org.cncf.model.filepath"
_PRECISIONS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
               "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
               "BOOL": "bool"}  # fmt: skip
Descriptor = dict[str, Any]


def write_layout(export: ModelExport, weights: Path, target: Path) -> Path:
    """Write a version as the OCI layout ``target``, all of it or nothing. Move the file ``weights`` into it. Return
    ``target``.

    Raise Refused where ``target`` exists already.
    """
    tensors = _tensors_in(weights) if export.version.weights.format == "safetensors" else {}
    with new_folder(target) as folder:
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        version = export.version
        shutil.move(weights, blobs / version.weights.digest)
        layers = [
            _described(_WEIGHTS, version.weights.digest, version.weights.size, weights_file(version.weights)),
            _blob(blobs, _RECORD, export.record.encode(), RECORD_FILE),
        ]
        config = _blob(blobs, _CONFIG, _json(_config(export, tensors, layers)))
        model = _blob(blobs, _MANIFEST, _json(_manifest(_MODEL, config, layers)))
        tag = f"v{version.version}"
        manifests = [model | {"artifactType": _MODEL, "annotations": {"org.opencontainers.image.ref.name": tag}}]
        if version.signature is not None:
            bundle = _blob(blobs, BUNDLE, _json(bundle_of(version.signature)), SIGNATURE_FILE)
            empty = _blob(blobs, _EMPTY, b"{}")
            signature = _manifest(BUNDLE, empty, [bundle]) | {"subject": model}
            manifests.append(_blob(blobs, _MANIFEST, _json(signature)) | {"artifactType": BUNDLE})
        (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
        (folder / "index.json").write_bytes(_json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}))
    return target


def _config(export: ModelExport, tensors: Mapping[str, Tensor], layers: list[Descriptor]) -> dict[str, Any]:
    version = export.version
    descriptor: dict[str, Any] = {
        "createdAt": version.time,
        "name": export.name,
        "version": str(version.version),
        "description": version.description,
        "revision": next(iter(version.code), ""),
        "licenses": [version.licence] if version.licence else [],
    }
    types = sorted({_PRECISIONS[each.dtype] for each in tensors.values() if each.dtype in _PRECISIONS})
    technical = {"format": version.weights.format, "paramSize": _param_size(tensors), "precision": ",".join(types)}
    return {
        "descriptor": {key: value for key, value in descriptor.items() if value},
        "config": {key: value for key, value in technical.items() if value},
        "modelfs": {"type": "layers", "diffIds": [each["digest"] for each in layers]},
    }


def _param_size(tensors: Mapping[str, Tensor]) -> str:
    """Return the number of parameters as the specification writes it: ``6.7B``. Below a thousand it has no form."""
    count = float(sum(each.count for each in tensors.values()))
    for prefix, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + prefix
    return ""


def _tensors_in(weights: Path) -> dict[str, Tensor]:
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        with memoryview(mapped) as data:
            return read_header(data, weights.name)[0]


def _manifest(artifact: str, config: Descriptor, layers: list[Descriptor]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": _MANIFEST, "artifactType": artifact, "config": config, "layers": layers}


def _blob(blobs: Path, media_type: str, content: bytes, name: str = "") -> Descriptor:
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return _described(media_type, digest, len(content), name)


def _described(media_type: str, digest: str, size: int, name: str = "") -> Descriptor:
    found: Descriptor = {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}
    return found | {"annotations": {_FILE_PATH: name}} if name else found


def _json(tree: Mapping[str, Any]) -> bytes:
    return json.dumps(tree, separators=(",", ":"), sort_keys=True).encode()
