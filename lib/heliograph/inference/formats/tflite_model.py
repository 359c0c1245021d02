"""A TensorFlow Lite model in LiteRT, on the CPU. Quantised inputs and outputs are floats to whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph.bus.contract.tflite_file import read_tflite
from heliograph.core.errors import Refused
from heliograph.inference.formats.opened import Array, OpenedModel


class LiteModel(OpenedModel):
    """An interpreter; it takes another shape of its inputs when one comes."""

    def __init__(self, content: bytes, name: str) -> None:
        self.signature = read_tflite(memoryview(content), name)  # before native code reads a byte of it
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter: Any = Interpreter(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise Refused("bad-weights", topic=name, expected="a model that LiteRT can run", got=str(error)[:500],
                          hint="Convert it with built-in operators only.") from None  # fmt: skip

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        interpreter = self._interpreter
        inputs = {each["name"]: each for each in interpreter.get_input_details()}
        resized = False
        for name, array in feeds.items():
            if tuple(inputs[name]["shape"]) != array.shape:
                interpreter.resize_tensor_input(inputs[name]["index"], array.shape)
                resized = True
        if resized:
            interpreter.allocate_tensors()
        for name, array in feeds.items():
            interpreter.set_tensor(inputs[name]["index"], _quantised(array, inputs[name]))
        interpreter.invoke()
        return {each["name"]: _plain(interpreter.get_tensor(each["index"]), each)
                for each in interpreter.get_output_details()}  # fmt: skip


def _quantised(array: Array, detail: Mapping[str, Any]) -> Array:
    scale, zero = detail["quantization"]
    if not scale or array.dtype.kind != "f":
        return array.astype(detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    whole: Array = np.clip(np.round(array / scale) + zero, limits.min, limits.max).astype(detail["dtype"])
    return whole


def _plain(array: Array, detail: Mapping[str, Any]) -> Array:
    scale, zero = detail["quantization"]
    return (array.astype(np.float32) - zero) * np.float32(scale) if scale else array
