"""A TensorFlow Lite model in LiteRT, on the CPU. Quantised inputs and outputs are floats to whoever asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from heliograph.bus.contract.resources.model import TensorSchema
from heliograph.bus.contract.tflite_file import read_tflite
from heliograph.core.errors import Refused
from heliograph.inference.formats.opened import Array, OpenedModel


class LiteModel(OpenedModel):
    """An interpreter; it takes another shape of its inputs when one comes."""

    def __init__(self, content: bytes, name: str) -> None:
        found = read_tflite(memoryview(content), name)  # before native code reads a byte of it
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter: Any = Interpreter(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise Refused("bad-weights", topic=name, expected="a model that LiteRT can run", got=str(error)[:500],
                          hint="Convert it with built-in operators only.") from None  # fmt: skip
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.quantised = {each.name: each.dtype for each, detail in zip(found.inputs, inputs, strict=True)
                          if detail["quantization"][0]}  # fmt: skip
        self.signature = replace(found, inputs=_as_floats(found.inputs, inputs, name),
                                 outputs=_as_floats(found.outputs, outputs, name))  # fmt: skip

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        interpreter = self._interpreter
        inputs = {each.name: detail for each, detail in
                  zip(self.signature.inputs, interpreter.get_input_details(), strict=True)}  # fmt: skip
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
        outputs = zip(self.signature.outputs, interpreter.get_output_details(), strict=True)
        return {each.name: _plain(interpreter.get_tensor(detail["index"]), detail) for each, detail in outputs}


def _as_floats(
    tensors: Sequence[TensorSchema], details: Sequence[Mapping[str, Any]], name: str
) -> tuple[TensorSchema, ...]:
    """Return inputs or outputs with quantised ones as floats. Raise Refused for one with several scales."""
    found = []
    for tensor, detail in zip(tensors, details, strict=True):
        scales = len(detail["quantization_parameters"]["scales"])
        if scales > 1:
            raise Refused("bad-weights", topic=name, field=tensor.name, got=f"{scales} scales, one for each channel",
                          expected="an input or output with one scale and one zero point",
                          hint="Convert it with inputs and outputs of float32.")  # fmt: skip
        found.append(tensor.model_copy(update={"dtype": "float32"}) if detail["quantization"][0] else tensor)
    return tuple(found)


def _quantised(array: Array, detail: Mapping[str, Any]) -> Array:
    """Return numbers as an input takes them; an array of its own type is quantised already."""
    scale, zero = detail["quantization"]
    if not scale or array.dtype == detail["dtype"]:
        return array.astype(detail["dtype"], copy=False)
    limits = np.iinfo(detail["dtype"])
    whole: Array = np.clip(np.round(array / scale) + zero, limits.min, limits.max).astype(detail["dtype"])
    return whole


def _plain(array: Array, detail: Mapping[str, Any]) -> Array:
    scale, zero = detail["quantization"]
    return (array.astype(np.float32) - zero) * np.float32(scale) if scale else array
