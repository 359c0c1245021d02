"""Whole models in a file: opened by the runtime of their format, without code of the user's.

A format is a file beside this one. Its runtime is an extra, and is imported when the first model is opened.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from heliograph.core.errors import Refused
from heliograph.inference.formats.opened import OpenedModel

RUNTIMES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert"}
"""The module of each format's runtime. The extra has the format's name."""


def require_runtime(format: str) -> None:
    """Raise Refused where the runtime of a format is not installed."""
    if find_spec(RUNTIMES[format]) is None:
        raise Refused("no-runtime", field="format", got="a node without it",
                      expected=f"{RUNTIMES[format]}, which serves {format} files",
                      hint=f"Install it there: pip install 'heliograph[{format}]'.")  # fmt: skip


def open_model(format: Literal["onnx", "tflite"], source: Path | bytes, name: str) -> OpenedModel:
    """Return a model, ready to run. Raise Refused, naming the file, where it is no model that the runtime can run."""
    require_runtime(format)
    content = source if isinstance(source, bytes) else source.read_bytes()
    if format == "onnx":
        from heliograph.inference.formats.onnx_model import OnnxModel

        return OnnxModel(content, name)
    from heliograph.inference.formats.tflite_model import LiteModel

    return LiteModel(content, name)


__all__ = ["OpenedModel", "open_model", "require_runtime"]
