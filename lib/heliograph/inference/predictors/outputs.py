"""From a model's outputs to results and scores. Pure.

A model gives for each sample a row of scores, one number, or a label. What one number means is never guessed from its
size: the model tells (a sigmoid at its end), or the user does (``outputs=``), or it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from heliograph.core.errors import Refused

Array = np.ndarray[Any, Any]
Meaning = Literal["probabilities", "logits", "values"]
MEANINGS: tuple[str, ...] = get_args(Meaning)
SUM_WITHIN = 1e-2
"""Largest distance from 1 of the sum of an estimator's probabilities; beyond it a sample may have several classes."""
HOOK = "Name the part with the scores by scores=lambda output: {part}; it takes the output of a batch."


@dataclass(frozen=True)
class Reading:
    """How a model's outputs are read, as its user says.

    Attributes:
        classes: the label of each score, in their order; None for the model's own, or else 0, 1, 2, …
        outputs: what the numbers are; None for what the model tells.
        scores: hook that takes the output of a batch and returns one row of scores for each sample.
        after: hook that makes the result from one row of scores.
    """

    classes: tuple[Any, ...] | None = None
    outputs: Meaning | None = None
    scores: Callable[[Any], Any] | None = None
    after: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """One sample's prediction.

    Attributes:
        result: the label, the value, or what ``after`` made.
        scores: the row of scores; None for a model that gives labels or values.
        kind: what the model gives.
        failure: why there is no result, if there is none: the scores are not finite.
        logits: the row of logits that became the scores, if one did.
    """

    result: Any
    scores: Any
    kind: Literal["scores", "label", "value"] = "scores"
    failure: Refused | None = None
    logits: Any = None


@dataclass(frozen=True)
class ModelOutput:
    """What a model gave for a batch.

    Attributes:
        rows: the output.
        meaning: tells what the numbers are, where the model tells.
        classes: the label of each score, where the model knows them.
        labels: the model's own answers, where they are not the class of the highest score.
        soften: whether rows of several numbers that are no probabilities become them.
    """

    rows: Any
    meaning: Callable[[], Meaning | Literal["labels"] | None] = lambda: None
    classes: tuple[Any, ...] | None = None
    labels: Sequence[Any] | None = None
    soften: bool = False


def reading_of(
    classes: Sequence[Any] | None,
    outputs: str | None,
    scores: Callable[[Any], Any] | None,
    after: Callable[[Any], Any] | None,
) -> Reading:
    """Return how outputs are read. Raise Refused if ``classes`` is no list of labels or ``outputs`` is unknown."""
    if outputs is not None and outputs not in MEANINGS:
        raise Refused("invalid", field="outputs", expected=f"one of {', '.join(MEANINGS)}", got=outputs)
    if classes is not None:
        if isinstance(classes, (str, bytes)) or not hasattr(classes, "__len__") or not len(classes):
            raise Refused("invalid", field="classes", expected="a list of labels, one for each score", got=classes)
        classes = tuple(map(plain_label, classes))
    return Reading(classes, outputs, scores, after)  # type: ignore[arg-type]


def predictions(output: ModelOutput, count: int, reading: Reading) -> list[Prediction]:
    """Return the prediction of each of ``count`` samples.

    Raise Refused where the outputs need an option to be read, ValueError where their number is another.
    """
    rows = _rows(output.rows if reading.scores is None else reading.scores(output.rows), count)
    if len(rows) != count:
        raise ValueError(f"the model returned {len(rows)} rows of scores for {count} samples")
    logits = None
    if isinstance(rows, np.ndarray) and rows.dtype.kind != "f" and rows.ndim == 1:
        return [_label(each, reading, output) for each in rows]
    if _is_column(rows):
        column = np.asarray(rows).reshape(-1)
        if reading.outputs is None and reading.after is not None:
            return [_scored(row, None, reading, output) for row in rows]  # the user's own hook reads the number
        meaning = reading.outputs or output.meaning()
        if meaning == "labels":
            return [_label(each, reading, output) for each in column]
        if meaning == "values":
            return [_value(each, reading) for each in column]
        one_class = output.classes is not None and len(output.classes) == 1  # an estimator that has seen no other
        rows = column.reshape(-1, 1) if one_class else _two_columns(column, meaning)
    elif (meaning := reading.outputs or output.meaning()) == "values":
        return [_value(np.asarray(row), reading) for row in rows]
    elif meaning == "labels":  # one for each of several outputs
        return [_label(np.asarray(row).tolist(), Reading(after=reading.after), output) for row in rows]
    elif reading.outputs == "logits":
        logits, rows = rows, softmax(np.asarray(rows))
    elif reading.outputs is None and output.soften and isinstance(rows, np.ndarray) and rows.ndim == 2:
        given, rows = rows, _softened(rows, output, reading)
        logits = None if rows is given else given
    labels: Sequence[Any] = [None] * count if output.labels is None else output.labels
    found = [_scored(row, label, reading, output) for row, label in zip(rows, labels, strict=True)]
    return found if logits is None else [replace(each, logits=row) for each, row in zip(found, logits, strict=True)]


def softmax(rows: Array) -> Array:
    """Return the probabilities of rows of logits, samples × classes."""
    shifted = np.exp(rows - rows.max(-1, keepdims=True))
    found: Array = shifted / shifted.sum(-1, keepdims=True)
    return found


def are_distributions(rows: Array) -> bool:
    """Return whether every row is of probabilities: none negative, the sum of each 1."""
    return bool(rows.min(initial=0) >= 0 and np.allclose(rows.sum(-1), 1, atol=1e-3))


def plain_label(label: Any) -> Any:
    """Return a label as a plain value: NumPy's numbers and texts as Python's."""
    return label.item() if isinstance(label, np.generic) else label


def as_array(value: Any) -> Any:
    """Return a tensor of PyTorch, of TensorFlow or of JAX as an array; return anything else unchanged."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return value.float().numpy() if "bfloat16" in str(value.dtype) else value.numpy()
    if not isinstance(value, (np.ndarray, np.generic)) and hasattr(value, "__array__") and hasattr(value, "dtype"):
        return np.asarray(value)
    return value


def _rows(given: Any, count: int) -> Any:
    """Return an output as an array or a list with one entry for each sample. Raise Refused for any other form."""
    rows = as_array(given)
    if isinstance(rows, np.ndarray):
        return rows.reshape(1) if rows.ndim == 0 and count == 1 else rows
    if isinstance(rows, Mapping) or (isinstance(rows, tuple) and not _is_row_tuple(rows, count)):
        raise _no_rows(rows)
    if isinstance(rows, (str, bytes)) or not hasattr(rows, "__len__"):
        raise _no_rows(rows)
    rows = [as_array(each) for each in rows]
    for each in rows[:1]:
        if isinstance(each, (Mapping, tuple)):
            raise _no_rows(each)
    if rows and all(each is None or isinstance(each, (str, bytes)) or np.ndim(each) == 0 for each in rows):
        return rows if any(each is None for each in rows) else np.asarray(rows)
    return rows


def _is_row_tuple(rows: tuple[Any, ...], count: int) -> bool:
    return len(rows) == count and all(isinstance(each, np.ndarray) and each.ndim == 1 for each in rows)


def _no_rows(given: Any) -> Refused:
    part = "..."
    if isinstance(given, Mapping):
        got = f"a mapping with {', '.join(map(str, list(given)[:8]))}"
        part = f"output[{next((name for name in given if name == 'logits'), next(iter(given), '...'))!r}]"
    else:
        part = "output[0]" if isinstance(given, (tuple, list)) else part
        got = f"a {type(given).__name__}" + (f" of {len(given)}" if isinstance(given, tuple) else "")
    return Refused("bad-scores", field="scores", expected="one row of scores for each sample as the model's output",
                   got=got, hint=HOOK.format(part=part))  # fmt: skip


def _is_column(rows: Any) -> bool:
    """Return whether the output is one number for each sample."""
    if isinstance(rows, np.ndarray):
        return rows.ndim == 1 or (rows.ndim == 2 and rows.shape[1] == 1)
    return bool(rows) and all(isinstance(each, np.ndarray) and each.shape == (1,) for each in rows)


def _two_columns(column: Array, meaning: str | None) -> Array:
    """Return the probabilities of both classes, from the probability or the logit of the second."""
    if meaning is None:
        raise Refused(
            "unknown-output", field="outputs", expected="what the one number for each sample is", got="no option",
            hint="Say outputs='probabilities' (of the second class), outputs='logits' (before a sigmoid) or "
            "outputs='values' (a regression), or give after=.",
        )  # fmt: skip
    second = column if meaning == "probabilities" else 1 / (1 + np.exp(-np.clip(column.astype(np.float64), -500, 500)))
    finite = second[np.isfinite(second)]
    if len(finite) and not -1e-6 <= finite.min() <= finite.max() <= 1 + 1e-6:
        raise Refused("bad-scores", field="outputs", expected="probabilities from 0 to 1", got=float(finite[0]),
                      hint="For numbers before a sigmoid say outputs='logits', for a regression "
                      "outputs='values'.")  # fmt: skip
    return np.stack([1 - second, second], axis=1)


def _softened(rows: Array, output: ModelOutput, reading: Reading) -> Array:
    if rows.shape[1] < 2 or are_distributions(rows):
        return rows
    in_range = bool(rows.min(initial=0) >= 0 and rows.max(initial=0) <= 1)
    if in_range and reading.after is None and output.meaning() == "probabilities":
        raise _several()
    return softmax(rows)


def _several() -> Refused:
    return Refused("bad-scores", field="after", expected="scores of which one class is right, with the sum 1",
                   got="probabilities of several classes at once",
                   hint="Give after= to make the result from one row of scores.")  # fmt: skip


def _scored(row: Any, label: Any, reading: Reading, output: ModelOutput) -> Prediction:
    if reading.after is not None:
        return Prediction(reading.after(row), row)
    shape = np.shape(row) if not isinstance(row, list) else (len(row),)
    if row is None or shape == (0,):
        return Prediction(row, row)  # a model without scores for this sample: a detector that saw nothing
    if len(shape) != 1:
        code = "invalid" if shape[0] == 1 else "bad-scores"  # by one row more the sample seems to be a batch of one
        raise Refused(code, field="input", expected="one sample, without a batch axis, and one row of scores for it",
                      got=f"scores of shape {shape}", hint="Of a batch of one give x[0]; for a model with such scores "
                      "give after= to make the result from them.")  # fmt: skip
    classes = reading.classes if reading.classes is not None else output.classes
    if label is None and classes is not None and len(classes) != shape[0]:
        raise Refused("bad-classes", field="classes", expected=f"{shape[0]} labels, one for each score",
                      got=f"{len(classes)} labels")  # fmt: skip
    numbers = np.asarray(row)
    if numbers.dtype.kind not in "fiub":
        raise Refused("bad-scores", field="scores", expected="numbers as scores", got=row, hint=HOOK.format(part="..."))
    if not np.isfinite(numbers).all():
        failure = Refused("model-failed", field="scores", expected="finite scores of the model", got=numbers.tolist())
        return Prediction(None, row, failure=failure)
    if label is not None:
        return Prediction(_named(label, reading, output), row)
    best = int(numbers.argmax())
    return Prediction(best if classes is None else classes[best], row)


def _label(each: Any, reading: Reading, output: ModelOutput) -> Prediction:
    label = _named(each, reading, output)
    return Prediction(label if reading.after is None else reading.after(label), None, "label")


def _named(label: Any, reading: Reading, output: ModelOutput) -> Any:
    """Return the user's name of a model's label: ``classes`` are in the order of the model's own, or of 0, 1, 2, …"""
    label = plain_label(label)
    if reading.classes is None:
        return label
    known = output.classes if output.classes is not None else tuple(range(len(reading.classes)))
    if label not in known or len(known) != len(reading.classes):
        raise Refused("bad-classes", field="classes", expected=f"a label for each of {list(known)}", got=label)
    return reading.classes[known.index(label)]


def _value(value: Any, reading: Reading) -> Prediction:
    if not np.isfinite(value).all():
        failure = Refused("model-failed", field="scores", expected="a finite value of the model", got=value.tolist())
        return Prediction(None, None, "value", failure)
    return Prediction(value.tolist() if reading.after is None else reading.after(value), None, "value")
