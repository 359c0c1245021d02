"""Predictors: what a user's model of any framework answers to samples, as results and scores.

A predictor is a file beside this one: it puts samples into the form that its kind of model takes, and says what the
model's outputs mean as far as the model tells. ``outputs`` makes the results, the same for all kinds.
"""

from __future__ import annotations

from contextlib import suppress

from heliograph.core.errors import Refused
from heliograph.inference.predictors.outputs import Meaning, Prediction, Reading, reading_of
from heliograph.inference.predictors.predictor import Predictor, Prepared
from heliograph.inference.predictors.whole_model import WholeModel, WholeModelPredictor


def predictor_for(model: object, field: str = "model", reading: Reading | None = None) -> Predictor:
    """Return the predictor of a model.

    Args:
        model: a torch.nn.Module, a Keras model, an estimator with ``predict``, or a function that takes a batch
            (samples × ...) and returns one row of scores, or one label, for each sample.
        field: name of the argument, for the error.
        reading: how the model's outputs are read.

    Raises:
        Refused: for any other model.
    """
    reading = reading or Reading()
    # the names of the model's base classes tell its framework without an import of that framework
    family = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(model).__mro__}
    if ("keras", "Model") in family:  # before torch: on the torch backend a Keras model is a torch Module too
        from heliograph.inference.predictors.keras_model import KerasPredictor

        return KerasPredictor(model, reading)
    if ("torch", "Module") in family:
        from heliograph.inference.predictors.torch_module import TorchPredictor

        return TorchPredictor(model, reading)
    if isinstance(model, WholeModel):
        return WholeModelPredictor(model, reading)
    if hasattr(model, "predict_proba") or (hasattr(model, "predict") and hasattr(model, "fit")):
        from heliograph.inference.predictors.estimator import EstimatorPredictor

        return EstimatorPredictor(model, reading)
    if callable(model):
        from heliograph.inference.predictors.function import FunctionPredictor

        return FunctionPredictor(model, reading)
    raise Refused(
        "bad-model", field=field, expected="a torch.nn.Module, a Keras model, an estimator with predict, or a "
        "function of a batch", got=f"{type(model).__module__}.{type(model).__qualname__}",
    )  # fmt: skip


def warm(predictor: Predictor) -> None:
    """Run a model once on zeros, if it names the shape of its input: frameworks prepare much in their first call."""
    if (example := predictor.example()) is not None:
        with suppress(Exception):  # zeros of that shape may be no sample of this model
            predictor.predict([example])


__all__ = ["Meaning", "Prediction", "Predictor", "Prepared", "Reading", "predictor_for", "reading_of", "warm"]
