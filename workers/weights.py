"""Read a version of a served model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heliograph.bus.contract.weights_file import TensorFile
from heliograph.incremental import class_names


def read_version(source: Path | bytes, name: str) -> tuple[dict[str, Any], Sequence[str]]:
    """Return copies of a version's arrays, and the names of its classes. Whatever is wrong with the file raises."""
    with TensorFile(source, name) if isinstance(source, bytes) else TensorFile(source) as file:
        return {key: file.numpy(key).copy() for key in file.tensors}, class_names.read(file.metadata)
