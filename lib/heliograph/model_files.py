"""The weights of a cluster's models as files: fetch a version, upload a file."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.onnx_file import read_onnx
from heliograph.bus.contract.resources import Model, ModelVersion, latest, named_by
from heliograph.bus.contract.resources.base import WeightsFormat, WeightsRef
from heliograph.bus.contract.resources.model import declared
from heliograph.bus.contract.tflite_file import read_tflite
from heliograph.bus.contract.weights_file import INLINE
from heliograph.bus.contract.weights_header import check_file, check_inline
from heliograph.bus.transport import Bus
from heliograph.bus.weights_transfer import fetch_weights, store_weights
from heliograph.core.errors import Forbidden, HeliographError, Refused
from heliograph.core.world import World

MAX_SIZE = 16 << 30
"""Bytes of a file, at most."""
_FORMATS: Mapping[str, WeightsFormat] = {".onnx": "onnx", ".tflite": "tflite"}
"""The format by the end of a file's name; any other is safetensors."""
_NO_STORE = "this connection has no object store; use the nats:// address of an operator's login"


def version_of(model: Model, version: int | str | None) -> ModelVersion:
    """Return a version of a model by its number or an alias, or the model that an unfinished job left under that
    number; the declared weights for 0, and the latest one where nothing is given.

    Raise Refused where there is no such version, HeliographError where there is none yet.
    """
    found = latest(model)
    if isinstance(version, str):
        found = named_by(model, version)
        if found is None:
            raise Refused("no-version", topic=f"model/{model.name}", field="version",
                          expected=", ".join(model.status.aliases) or "a number: the model has no aliases",
                          got=version)  # fmt: skip
    elif version is not None:
        first = declared(model)
        known = sorted([*([first] if first is not None else []), *model.status.versions, *model.status.unfinished],
                       key=lambda each: each.version)  # fmt: skip
        found = next((each for each in known if each.version == version), None)
        if found is None and known:
            numbers = ", ".join(str(each.version) for each in known[-20:])
            raise Refused("no-version", topic=f"model/{model.name}", field="version", expected=numbers, got=version)
    if found is None:
        raise HeliographError(f"model {model.name} has no version yet; a job that trains it makes the first")
    if found.weights.bucket is None and found.weights.inline is None:  # documents do not show inline weights
        raise HeliographError(f"the weights of model {model.name} stand in its document, which does not show them; "
                              "a job that trains it makes a version that can be fetched")  # fmt: skip
    return found


def version_with(document: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """Return the newest version of a model's document that has these weights; the declared ones are version 0."""
    versions: list[dict[str, Any]] = document["status"]["versions"]
    found = next((each for each in reversed(versions) if each["weights"]["digest"] == digest), None)
    return found if found is not None else {"version": 0, "weights": document["spec"]["weights"]}


async def fetch(bus: Bus, weights: WeightsRef, target: Path, world: World) -> Path:
    """Write referenced weights to the safetensors file ``target``, verified by their SHA-256. Return ``target``.

    Raise Refused where they are no safetensors file, Unreachable where they cannot be had now.
    """
    if weights.inline is not None:
        check_inline(weights)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.part")
        partial.write_bytes(weights.inline)
        return partial.replace(target)
    try:
        return await fetch_weights(await bus.blobs(weights.bucket or MODELS), weights, target, world)
    except NotImplementedError:
        raise HeliographError(_NO_STORE) from None


def file_reference(file: Path) -> WeightsRef:
    """Return the reference to a safetensors file, or to an ONNX or TensorFlow Lite model by the end of its name. Raise
    Refused where it is none, or too large."""
    if (size := file.stat().st_size) > MAX_SIZE:
        raise Refused("too-large", topic=str(file), expected=f"at most {MAX_SIZE} bytes", got=f"{size} bytes")
    format = _FORMATS.get(file.suffix.lower(), "safetensors")
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    ref = WeightsRef(digest=digest, size=size, format=format)
    try:
        check_file(file, ref)
    except Refused as error:
        hint = "Write it with safetensors: save_file(tensors, file)." if format == "safetensors" else error.hint
        raise Refused(error.code, topic=str(file), expected=error.expected, got=error.got, hint=hint) from None
    return ref


def described_by(file: Path, format: WeightsFormat) -> dict[str, Any]:
    """Return what a registration says of a file, by the file itself: inputs, outputs and, where the file names them,
    classes; nothing for a safetensors file."""
    if format == "safetensors":
        return {}
    with file.open("rb") as content, mmap.mmap(content.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        with memoryview(mapped) as data:
            signature = read_onnx(data, str(file)).signature if format == "onnx" else read_tflite(data, str(file))
    found: dict[str, Any] = {"inputs": [each.model_dump() for each in signature.inputs],
                             "outputs": [each.model_dump() for each in signature.outputs]}  # fmt: skip
    return found | ({"label_schema": {"classes": list(signature.classes)}} if signature.classes else {})


async def store(bus: Bus, file: Path, world: World) -> WeightsRef:
    """Put a file of weights, or of a whole model, where every agent can fetch it, and return its reference.

    A small file travels in the reference where this login may not write into the object store.

    Raise Refused where it is none, HeliographError where it is too large for this login.
    """
    ref: WeightsRef = await world.in_thread(file_reference, file)
    try:
        return await store_weights(bus, file, ref, MODELS, world, hashed=True)
    except (NotImplementedError, Forbidden) as error:
        if ref.size > INLINE:
            why = str(error) or _NO_STORE
            needs = f"{file} has {ref.size} bytes; more than {INLINE} need the object store"
            raise HeliographError(f"{needs}: {why}") from None
        return ref.model_copy(update={"inline": await world.in_thread(file.read_bytes)})
