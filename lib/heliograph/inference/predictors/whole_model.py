"""A whole model in a file as a model: samples are checked against the inputs that the file names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from heliograph.bus.contract.resources.model import TensorSchema
from heliograph.core.errors import Refused
from heliograph.inference.formats.opened import Array, OpenedModel
from heliograph.inference.predictors.outputs import ModelOutput, Reading
from heliograph.inference.predictors.predictor import Predictor, Prepared
from heliograph.inference.predictors.samples import columns_in, finite, sample_array

_FLOATS = ("float32", "float64", "float16")


class WholeModel:
    """What a worker serves: the model of one file, until that of another takes its place between two requests.

    Args:
        output: name of the output with the scores; empty for the only one.
    """

    def __init__(self, output: str = "") -> None:
        self.output = output
        self._opened: OpenedModel | None = None
        self._scores = ""
        self._labels = ""

    @property
    def opened(self) -> OpenedModel:
        """The model. Raise Refused while there is none."""
        if self._opened is None:
            raise Refused("model-failed", field="model", expected="the service's model",
                          got="none that could be opened")  # fmt: skip
        return self._opened

    @property
    def scores(self) -> str:
        """Name of the output with the scores."""
        return self._scores

    @property
    def labels(self) -> str:
        """Name of the output with the labels that go with the scores; empty where there is none."""
        return self._labels

    def use(self, opened: OpenedModel) -> None:
        """Serve another model. Raise Refused where its inputs or outputs cannot be served; the earlier one stays."""
        for each in opened.signature.inputs:
            if not each.shape or each.shape[0] not in (-1, 1):
                raise Refused("bad-weights", field=f"inputs.{each.name}", got=f"shape {each.shape}",
                              expected="a first axis for the batch, of any length or of 1",
                              hint="Export the model with a dynamic batch axis.")  # fmt: skip
            if each.dtype not in (*_FLOATS, "string") and not hasattr(np, each.dtype):
                raise Refused("bad-weights", field=f"inputs.{each.name}", expected="an array of numbers or texts",
                              got=each.dtype)  # fmt: skip
        self._scores = _scores_of(opened.signature.outputs, self.output)
        self._labels = _labels_of(opened.signature.outputs, self._scores)
        self._opened = opened


class WholeModelPredictor(Predictor):
    """A whole model, and how its output with the scores is read."""

    def __init__(self, model: WholeModel, reading: Reading) -> None:
        super().__init__(reading)
        self._model = model

    def name_classes(self, names: Sequence[str]) -> None:
        """Let the scores have the labels of a version; without any the file's own."""
        self._reading = replace(self._reading, classes=tuple(names) or None)

    def prepare(self, x: Any) -> Prepared:
        inputs = self._model.opened.signature.inputs
        row = columns_in(x)
        if row is None and len(inputs) > 1:
            raise _bad_input(f"the inputs {_listed(inputs)}", "one array, or one text",
                             'Name each: {"inputs": {NAME: …}}; numbers and texts also as {"columns": …}.')  # fmt: skip
        if row is None:
            given = {inputs[0].name: x}
        else:
            names = {each.name for each in inputs}
            if row.keys() != names:
                raise _bad_input(f"the inputs {_listed(inputs)}", ", ".join(sorted(map(str, row)))[:400])
            given = dict(row)
        quantised = self._model.opened.quantised
        found = {each.name: _fitted(given[each.name], each, row is not None, quantised.get(each.name, ""))
                 for each in inputs}  # fmt: skip
        return Prepared(found, tuple((name, array.shape, array.dtype.str) for name, array in found.items()))

    def example(self) -> Prepared | None:
        inputs = self._model.opened.signature.inputs
        if any(-1 in each.shape[1:] or each.dtype == "string" for each in inputs):
            return None
        return Prepared({each.name: np.zeros(each.shape[1:], each.dtype) for each in inputs}, None)

    def _outputs(self, samples: Sequence[Prepared]) -> ModelOutput:
        opened = self._model.opened
        batches = [samples]
        if any(each.shape[0] == 1 for each in opened.signature.inputs):
            batches = [[each] for each in samples]
        parts = [opened.run({name: np.stack([each.value[name] for each in batch]) for name in batch[0].value})
                 for batch in batches]  # fmt: skip
        rows = np.concatenate([part[self._model.scores] for part in parts])
        classes = opened.signature.classes or None
        labels: Any = None
        if self._model.labels and classes is None and self._reading.classes is None:
            labels = np.concatenate([part[self._model.labels] for part in parts])
        return ModelOutput(rows, classes=classes, labels=labels, soften=True)


def _scores_of(outputs: Sequence[TensorSchema], named: str) -> str:
    """Return the name of the output with the scores. Raise Refused where it is not clear which."""
    names = [each.name for each in outputs]
    floats = [each.name for each in outputs if each.dtype in _FLOATS]
    if not named and len(floats) == 1:  # beside the scores an exporter may give the labels
        return floats[0]
    if not named and len(names) == 1 and outputs[0].dtype not in ("sequence", "map"):
        return names[0]
    found = [each for each in outputs if each.name == named and each.dtype not in ("sequence", "map")]
    if not found:
        raise Refused("bad-weights", field="output", expected=f"the output with the scores, one of {_listed(outputs)}",
                      got=named or "no name", hint="Name it as output: of the worker; of scikit-learn export with "
                      "zipmap=False, which makes an array of the scores.")  # fmt: skip
    return named


def _labels_of(outputs: Sequence[TensorSchema], scores: str) -> str:
    """Return the name of the output with the label of each sample, as exporters of classifiers write it: whole numbers
    or texts beside the scores, which need not be 0, 1, 2, …; empty where there is none."""
    found = [each.name for each in outputs if each.name != scores and "label" in each.name.lower()
             and each.dtype in ("int64", "int32", "string") and len(each.shape) == 1]  # fmt: skip
    return found[0] if len(found) == 1 else ""


def _fitted(value: Any, wanted: TensorSchema, is_column: bool, quantised: str) -> Array:
    """Return one sample as an input takes it. Raise Refused where it is none of its type and shape.

    Args:
        quantised: the type of numbers that are quantised already.
    """
    if wanted.dtype == "string":
        array = np.asarray(value, object)
        if not all(isinstance(each, str) for each in array.reshape(-1)):
            raise _bad_input(f"texts for {wanted.name}", type(value).__name__)
    else:
        if isinstance(value, (str, bytes, Mapping)) or value is None:
            raise _bad_input(f"numbers for {wanted.name}", "a text" if value is not None else "null")
        array = sample_array(value)
        if array.dtype.kind not in "fiub":
            raise _bad_input(f"numbers for {wanted.name}", f"an array of {array.dtype}")
        array = array if array.dtype.name == quantised else _as_type(finite(array), wanted)
    shape = tuple(wanted.shape[1:])
    if is_column and array.ndim == 0 and shape in ((1,), (-1,)):
        array = array.reshape(1)
    if array.ndim != len(shape) or any(own not in (-1, given) for own, given in zip(shape, array.shape, strict=True)):
        hint = "Give x[0] of a batch of one." if array.shape[1:] == shape and array.shape[:1] == (1,) else ""
        raise _bad_input(f"one sample of shape {_shown(shape)} for {wanted.name}", f"shape {array.shape}", hint)
    if 0 in array.shape:
        raise _bad_input(f"no empty axis for {wanted.name}", f"shape {array.shape}")
    return array


def _as_type(array: Array, wanted: TensorSchema) -> Array:
    kind = np.dtype(wanted.dtype)
    if array.dtype == kind:
        return array
    with np.errstate(all="ignore"):
        found: Array = array.astype(kind)
    if (kind.kind == "f" and not np.isfinite(found).all()) or (kind.kind != "f" and not (found == array).all()):
        raise _bad_input(f"numbers of {wanted.dtype} for {wanted.name}", f"an array of {array.dtype} with others")
    return found


def _bad_input(expected: str, got: str, hint: str = "") -> Refused:
    return Refused("invalid", field="input", expected=expected, got=got, hint=hint)


def _listed(tensors: Sequence[TensorSchema]) -> str:
    return ", ".join(f"{each.name} ({each.dtype}, {_shown(tuple(each.shape))})" for each in tensors)[:600]


def _shown(shape: tuple[int, ...]) -> str:
    return f"({', '.join('any' if each < 0 else str(each) for each in shape)})"
