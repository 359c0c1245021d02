"""An ONNX model in ONNX Runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph.bus.contract.onnx_file import read_onnx
from heliograph.core.errors import Refused
from heliograph.inference.formats.opened import Array, OpenedModel


class OnnxModel(OpenedModel):
    """A session without the memory arena, which never gives back what the largest request took, and whose threads do
    not spin between requests: a node has other work."""

    def __init__(self, content: bytes, name: str) -> None:
        self.signature = read_onnx(memoryview(content), name).signature  # before native code reads a byte of it
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3  # errors only: they come as exceptions, too
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has a class for each of its statuses, which share no base
            hint = "Export it for an older opset, or install a newer runtime on this node."
            raise Refused("bad-weights", topic=name, got=str(error)[:500],
                          expected=f"a model that ONNX Runtime {onnxruntime.__version__} can run",
                          hint=hint) from None  # fmt: skip
        self._outputs = [each.name for each in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        found = self._session.run(self._outputs, dict(feeds))
        return {name: each if isinstance(each, np.ndarray) else np.asarray(each, object)
                for name, each in zip(self._outputs, found, strict=True)}  # fmt: skip
