"""A Keras 3 model as a classifier. Its head is the last Dense layer, which is built anew, in place, where it grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks import adapter_for
from heliograph.frameworks.keras import unique_names
from heliograph.incremental.adapters.adapter import Array, Function, LearningAdapter, Terms
from heliograph.incremental.adapters.heads import known_part, resized


class KerasAdapter(LearningAdapter):
    """A Sequential, functional or subclassed model.

    Args:
        head: name of the Dense layer with a unit for each class; without it the last one.
    """

    def __init__(self, model: Any, predict: Function | None, features: Function | None, head: str | None) -> None:
        super().__init__(predict, features)
        self._model = model
        self.weights = adapter_for(model)
        self._layer = _head_of(model, head)

    def count(self) -> int:
        return int(self._layer.units)

    def count_in(self, arrays: Mapping[str, Array]) -> int:
        name = self._name_of(self._layer.kernel)
        if name not in arrays:
            raise Refused("bad-weights", field=name, expected="the head's weights", got="none")
        return int(arrays[name].shape[-1])

    def resize(self, classes: int, rng: np.random.Generator) -> None:
        layer = self._layer
        if classes == self.count():
            return
        old = [np.asarray(each.numpy()) for each in layer.weights]
        width = old[0].shape[0]
        layer._tracker.unlock()
        for each in list(layer.weights):
            layer._untrack_variable(each)
        layer.units, layer.built = classes, False
        layer.build((None, width))
        layer._tracker.lock()
        layer.set_weights([resized(each, -1 % each.ndim, classes, rng) for each in old])
        if getattr(self._model, "optimizer", None) is not None:  # it has the shapes of the old head
            self._model.optimizer = type(self._model.optimizer).from_config(self._model.optimizer.get_config())
        self._trace_anew()

    def head(self) -> dict[str, Array]:
        present = self.weights.get()
        return {name: present[name] for name in map(self._name_of, self._layer.weights)}

    def with_rows(self, rows: Array, biases: Array) -> dict[str, Array]:
        found = {}
        for name, own in self.head().items():
            if own.ndim == 2 and own.shape != rows.T.shape:
                raise Refused("bad-shape", field="features", expected=f"the {own.shape[0]} features that the head "
                              f"{self._layer.name} gets", got=f"{rows.shape[1]}")  # fmt: skip
            found[name] = rows.T.astype(own.dtype) if own.ndim == 2 else biases.astype(own.dtype)
        return found

    def squared_gradients(self, x: Array, y: Array) -> dict[str, Array]:
        names = [self._name_of(each) for each in self._model.trainable_variables]
        total = {name: np.zeros(each.shape, np.float64)
                 for name, each in zip(names, self._model.trainable_variables, strict=True)}  # fmt: skip
        for place in range(len(x)):
            found = self._gradients(self._batch(x[place : place + 1]), y[place : place + 1])
            for name, gradient in zip(names, found, strict=True):
                total[name] += np.square(gradient, dtype=np.float64)
        return {name: each / max(len(x), 1) for name, each in total.items()}

    def frozen(self) -> Function:
        import keras

        try:
            old = keras.models.clone_model(self._model)
        except (NotImplementedError, TypeError, ValueError) as error:
            raise Refused("bad-model", field="model", expected="a model that Keras can clone, for LwF",
                          got=f"{type(self._model).__name__}: {str(error).splitlines()[0]}",
                          hint="Give a subclassed model get_config(), or use a Sequential or functional "
                          "one.") from None  # fmt: skip
        old.set_weights(self._model.get_weights())
        return lambda x: self._logits(old(x, training=False))

    def penalty(self, terms: Terms, x: Any, scores: Any) -> Any:
        from keras import ops

        total = 0.0
        variables = {self._name_of(each): each for each in self._model.trainable_variables}
        for term in terms.weights:
            for name, importance in term.importance.items():
                if name in variables:
                    variable = ops.convert_to_tensor(variables[name])
                    anchor, weight = (ops.cast(each, variable.dtype) for each in (term.anchor[name], importance))
                    away = variable[known_part(variable, importance.shape)] - anchor
                    total = total + term.strength / 2 * ops.sum(weight * ops.square(away))
        for each in terms.scores:
            old = ops.take(each.old(x), each.columns, axis=1) / each.temperature
            new = ops.take(self._logits(scores), each.columns, axis=1) / each.temperature
            divergence = ops.softmax(old) * (ops.log_softmax(old) - ops.log_softmax(new))
            total = total + each.strength * each.temperature**2 * ops.mean(ops.sum(divergence, 1))
        return total

    def begin(self, terms: Terms) -> None:
        if not terms:
            return
        own = self._model.compute_loss

        def compute_loss(
            x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
        ) -> Any:
            loss = own(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
            return loss + self.penalty(terms, x, y_pred) if training else loss

        self._model.compute_loss = compute_loss
        self._trace_anew()

    def end(self) -> None:
        if "compute_loss" in vars(self._model):
            del self._model.compute_loss
            self._trace_anew()

    def _scores(self, x: Any) -> Any:
        return self._model(x, training=False)

    def _features(self, x: Any) -> Any:
        seen: list[Any] = []
        run = self._layer.call

        def call(given: Any, *args: Any, **keywords: Any) -> Any:
            seen.append(given)
            return run(given, *args, **keywords)

        self._layer.call = call
        try:
            self._scores(x)
        finally:
            del self._layer.call
        return seen[-1]

    def _batch(self, x: Array) -> Any:
        if x.dtype.kind == "O":
            return x
        return x.astype(np.float32) if x.dtype == np.float64 else x

    def _gradients(self, x: Any, y: Array) -> list[Array]:
        """Return the gradient of the cross-entropy of a batch on each trainable variable."""
        import keras

        def loss() -> Any:
            logits = self._logits(self._model(x, training=False))
            return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True))

        variables, backend = self._model.trainable_variables, keras.backend.backend()
        if backend == "tensorflow":
            import tensorflow

            with tensorflow.GradientTape() as tape:
                value = loss()
            found = tape.gradient(value, [each.value for each in variables])
            return [np.zeros(each.shape) if one is None else tensorflow.convert_to_tensor(one).numpy()
                    for one, each in zip(found, variables, strict=True)]  # fmt: skip
        if backend == "torch":
            import torch

            given = [each.value for each in variables]
            found = torch.autograd.grad(loss(), given, allow_unused=True)
            return [np.zeros(each.shape) if one is None else one.detach().cpu().numpy()
                    for one, each in zip(found, variables, strict=True)]  # fmt: skip
        raise Refused("bad-argument", field="strategy", expected="Keras on TensorFlow or PyTorch, for EWC",
                      got=f"the backend {backend}")  # fmt: skip

    def _logits(self, scores: Any) -> Any:
        """Return a framework's tensor of logits; of probabilities their logarithm."""
        from keras import ops

        if getattr(self._layer.activation, "__name__", "") == "softmax" or _ends_with_softmax(self._model):
            return ops.log(ops.clip(scores, 1e-12, 1.0))
        return scores

    def _name_of(self, variable: Any) -> str:
        names = unique_names([each.path for each in self._model.weights])
        return next(name for name, each in zip(names, self._model.weights, strict=True) if each is variable)

    def _trace_anew(self) -> None:
        """Let the next step, and the next prediction, be compiled anew."""
        for name in ("train_function", "test_function", "predict_function"):
            if getattr(self._model, name, None) is not None:
                setattr(self._model, name, None)


def _ends_with_softmax(model: Any) -> bool:
    layers = getattr(model, "layers", None) or [None]
    last = layers[-1]
    return type(last).__name__ == "Softmax" or getattr(getattr(last, "activation", None), "__name__", "") == "softmax"


def _head_of(model: Any, head: str | None) -> Any:
    dense = {each.name: each for each in model._flatten_layers() if type(each).__name__ == "Dense"}
    name = head if head is not None else next(reversed(dense), None)
    if name is None or name not in dense:
        raise Refused("bad-argument", field="head", expected="the name of the Dense layer with a unit for each class",
                      got="no Dense layer" if name is None else name,
                      hint=f"Use one of {', '.join(dense)}." if dense else "Let the model end with "
                      "keras.layers.Dense.")  # fmt: skip
    if not dense[name].built:
        raise Refused("bad-model", field="model", expected="a Keras model with weights", got="one not built yet",
                      hint="Start it with keras.Input(shape), or call it on one batch before.")  # fmt: skip
    return dense[name]
