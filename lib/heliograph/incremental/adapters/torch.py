"""A ``torch.nn.Module`` as a classifier. Its head is a Linear layer, whose parameters stay the same objects."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks import adapter_for
from heliograph.incremental.adapters.adapter import Array, Function, LearningAdapter, Terms
from heliograph.incremental.adapters.heads import known_part, resized

_AT_ONCE = 64
"""Samples whose gradients are held at once."""


class TorchAdapter(LearningAdapter):
    """A module on any device.

    Args:
        head: name of the Linear layer with a row for each class; without it the last one that the module declares.
    """

    def __init__(self, model: Any, predict: Function | None, features: Function | None, head: str | None) -> None:
        super().__init__(predict, features)
        self._module = getattr(model, "_orig_mod", model)
        self.weights = adapter_for(model)
        self._name, self._layer = _head_of(self._module, head)

    def count(self) -> int:
        return int(self._layer.weight.shape[0])

    def count_in(self, arrays: Mapping[str, Array]) -> int:
        name = f"{self._name}.weight" if self._name else "weight"
        if name not in arrays:
            raise Refused("bad-weights", field=name, expected="the head's weights", got="none")
        return int(arrays[name].shape[0])

    def resize(self, classes: int, rng: np.random.Generator) -> None:
        import torch

        if classes == self.count():
            return
        for parameter in (self._layer.weight, self._layer.bias):
            if parameter is not None:
                array = resized(parameter.detach().cpu().float().numpy(), 0, classes, rng)
                grown = torch.from_numpy(array).to(parameter.device, parameter.dtype)
                parameter.grad = None
                # by way of another type: a graph that the script still holds keeps the old shape's accumulator of
                # gradients alive, and only a change of type lets go of it
                parameter.data = grown.to(torch.float64 if grown.dtype == torch.float32 else torch.float32)
                parameter.data = grown
        self._layer.out_features = classes

    def head(self) -> dict[str, Array]:
        prefix = f"{self._name}." if self._name else ""
        present = self.weights.get()
        return {name: present[name] for name in (f"{prefix}weight", f"{prefix}bias") if name in present}

    def with_rows(self, rows: Array, biases: Array) -> dict[str, Array]:
        found = {}
        for name, own in self.head().items():
            if own.ndim == 2 and own.shape != rows.shape:
                raise Refused("bad-shape", field="features", expected=f"the {own.shape[1]} features that the head "
                              f"{self._name} gets", got=f"{rows.shape[1]}")  # fmt: skip
            found[name] = rows.astype(own.dtype) if own.ndim == 2 else biases.astype(own.dtype)
        return found

    def squared_gradients(self, x: Array, y: Array) -> dict[str, Array]:
        import torch
        from torch.func import functional_call, grad, vmap

        module, training = self._module, self._module.training
        parameters = {name: each.detach() for name, each in module.named_parameters() if each.requires_grad}
        buffers = dict(module.named_buffers())

        def loss(given: dict[str, Any], one: Any, label: Any) -> Any:
            scores = functional_call(module, (given, buffers), (one.unsqueeze(0),))
            return torch.nn.functional.cross_entropy(scores, label.unsqueeze(0))

        of_each = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")
        total = {name: torch.zeros_like(each) for name, each in parameters.items()}
        module.eval()
        try:
            for start in range(0, len(x), _AT_ONCE):
                block = slice(start, start + _AT_ONCE)
                labels = torch.from_numpy(y[block]).to(self._device())
                for name, each in of_each(parameters, self._batch(x[block]), labels).items():
                    total[name] += each.square().sum(0)
        finally:
            module.train(training)
        return {name: each.double().cpu().numpy() / max(len(x), 1) for name, each in total.items()}

    def frozen(self) -> Function:
        old = copy.deepcopy(self._module).eval().requires_grad_(False)

        def logits(x: Any) -> Any:
            import torch

            with torch.no_grad():
                return old(self._batch(x) if isinstance(x, np.ndarray) else x)

        return logits

    def penalty(self, terms: Terms, x: Any, scores: Any) -> Any:
        import torch

        total = torch.zeros((), device=self._device())
        named = dict(self._module.named_parameters())
        for term in terms.weights:
            for name, importance in term.importance.items():
                parameter = named[name]
                away = parameter[known_part(parameter, importance.shape)] - self._tensor(term.anchor[name], parameter)
                total = total + term.strength / 2 * (self._tensor(importance, parameter) * away.square()).sum()
        for each in terms.scores:
            columns = torch.from_numpy(each.columns).to(scores.device)
            old = torch.softmax(each.old(x)[:, columns] / each.temperature, 1)
            new = torch.log_softmax(scores[:, columns] / each.temperature, 1)
            divergence = torch.nn.functional.kl_div(new, old, reduction="batchmean")
            total = total + each.strength * each.temperature**2 * divergence
        return total

    def _scores(self, x: Any) -> Any:
        import torch

        training = self._module.training
        self._module.eval()
        try:
            with torch.no_grad():
                return self._module(x)
        finally:
            self._module.train(training)

    def _features(self, x: Any) -> Any:
        seen: list[Any] = []
        hook = self._layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            self._scores(x)
        finally:
            hook.remove()
        if not seen:
            raise Refused("bad-argument", field="head", expected="a layer that the model runs", got=self._name)
        return seen[-1]

    def _batch(self, x: Array) -> Any:
        import torch

        if x.dtype.kind == "O":
            return x
        tensor = torch.from_numpy(np.array(x, order="C")).to(self._device())
        dtype = next((each.dtype for each in self._module.parameters() if each.is_floating_point()), torch.float32)
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    def _device(self) -> Any:
        return next((each.device for each in self._module.parameters()), "cpu")

    @staticmethod
    def _tensor(array: Array, like: Any) -> Any:
        import torch

        return torch.from_numpy(array).to(like.device, like.dtype)


def _head_of(module: Any, head: str | None) -> tuple[str, Any]:
    import torch

    linear = {name: each for name, each in module.named_modules() if isinstance(each, torch.nn.Linear)}
    name = head if head is not None else next(reversed(linear), None)
    if name is None or name not in linear:
        raise Refused("bad-argument", field="head", expected="the name of the Linear layer with a row for each class",
                      got="no Linear layer" if name is None else name,
                      hint=f"Use one of {', '.join(each or '(the module itself)' for each in linear)}."
                      if linear else "Let the model end with torch.nn.Linear.")  # fmt: skip
    if torch.nn.parameter.is_lazy(linear[name].weight):
        raise Refused("bad-model", field=name, expected="a layer with weights", got="a lazy one",
                      hint="Run one batch through the model before.")  # fmt: skip
    return name, linear[name]
