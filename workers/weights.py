"""Read a version of a served model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heliograph.bus.contract.payloads import ServedModel
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.incremental import class_names
from heliograph.inference.formats import open_model
from heliograph.inference.versions import Weights


def read_version(source: Path | bytes, name: str, served: ServedModel | None = None) -> tuple[Weights, Sequence[str]]:
    """Return copies of a version's arrays, and the names of its classes; or a model that is served as its file, opened
    by its runtime, with the labels that its version has. Whatever is wrong with the file raises."""
    if served is not None:
        return open_model(served.format, source, name), served.classes
    with TensorFile(source, name) if isinstance(source, bytes) else TensorFile(source) as file:
        return {key: file.numpy(key).copy() for key in file.tensors}, class_names.read(file.metadata)
