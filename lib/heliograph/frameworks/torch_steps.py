"""The steps of PyTorch's optimizers, found by the hook that PyTorch calls before each step of any optimizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import Refused
from heliograph.frameworks.steps import StepsTaken
from heliograph.local_terms.base import Correction

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class TorchSteps:
    """Steps of the optimizers that move one module's parameters; other optimizers go on as they do.

    Args:
        parameters: returns the parameters by their names in an update; a tied one has its first name.
    """

    def __init__(self, parameters: Callable[[], Mapping[str, Any]]) -> None:
        self._parameters = parameters
        self._handle: Any = None

    def begin(self, correction: Correction | None, *, averages: bool) -> None:
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        self._forget()
        self._names = {id(parameter): name for name, parameter in reversed(list(self._parameters().items()))}
        self._correction = correction
        self._averages = averages
        self._counts: Counter[int] = Counter()
        self._momentum = 0.0
        self._sums: dict[str, Any] = {}
        self._moved: set[str] = set()
        self._added: dict[str, tuple[Any, Any]] = {}
        """Anchor and shift of each parameter on its own device."""
        self._handle = register_optimizer_step_pre_hook(self._before_step)

    def end(self) -> StepsTaken:
        self._forget()
        count = max(self._counts.values(), default=0)  # two optimizers share a model: each moves a part of it
        gradients = {name: (total / count).cpu().numpy() for name, total in self._sums.items()}
        return StepsTaken(count, self._momentum, frozenset(self._moved), gradients)

    def _forget(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        own = [(group, parameter) for group in optimizer.param_groups for parameter in group["params"]
               if id(parameter) in self._names]  # fmt: skip
        if not own:
            return None
        this, *rest = args  # the optimizer is the first of its step's arguments
        closure = rest[0] if rest else kwargs.get("closure")
        if closure is None:
            self._correct(optimizer, own)
            return None

        def corrected() -> Any:  # an optimizer such as L-BFGS computes gradients anew within one step
            import torch

            with torch.enable_grad():
                loss = closure()
            self._correct(optimizer, own)
            return loss

        return ((this, corrected, *rest[1:]), kwargs) if rest else (args, {**kwargs, "closure": corrected})

    def _correct(self, optimizer: Any, own: list[tuple[Any, Any]]) -> None:
        import torch

        self._counts[id(optimizer)] += 1
        if type(optimizer).__name__ == "SGD":
            self._momentum = max(self._momentum, float(own[0][0].get("momentum", 0.0)))
        scale = getattr(optimizer, "grad_scale", None)  # a fused optimizer divides by it within its step
        with torch.no_grad():
            for _, parameter in own:
                if parameter.grad is None:
                    continue
                name = self._names[id(parameter)]
                if parameter.grad.is_sparse:
                    raise _sparse(name)
                self._moved.add(name)
                if self._averages:
                    self._sum(name, parameter.grad if scale is None else parameter.grad / scale)
                if self._correction is None:
                    continue
                if self._correction.rests(name, self._counts[id(optimizer)]):
                    parameter.grad = None  # not 0: momentum and decay would move it
                else:
                    self._add(self._correction, name, parameter, scale)

    def _sum(self, name: str, gradient: Any) -> None:
        if name in self._sums:
            self._sums[name] += gradient
        else:
            self._sums[name] = gradient.detach().float().clone()

    def _add(self, correction: Correction, name: str, parameter: Any, scale: Any) -> None:
        if name not in self._added:
            anchor, shift = correction.anchor.get(name), correction.shift.get(name)
            self._added[name] = (_like(anchor, parameter), _like(shift, parameter))
        anchor, shift = self._added[name]
        added = None
        if anchor is not None and correction.pull:
            added = (parameter - anchor) * correction.pull
        if shift is not None:
            added = shift if added is None else added + shift
        if added is not None:
            parameter.grad.add_(added if scale is None else added * scale)


def _like(array: Array | None, parameter: Any) -> Any:
    """Return an array as a tensor of the parameter's type, on its device; None for none."""
    import numpy as np
    import torch

    if array is None:
        return None
    values = torch.from_numpy(np.array(array, order="C"))
    if parameter.is_complex():
        values = torch.view_as_complex(values)
    return values.to(parameter.device, parameter.dtype)


def _sparse(name: str) -> Refused:
    return Refused("bad-model", field=name, expected="a dense gradient: the job's algorithm adds to all of it",
                   got="a sparse one", hint="Make the layer without sparse=True.")  # fmt: skip
