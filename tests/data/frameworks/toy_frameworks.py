"""Adapters of a package outside Heliograph, good and bad."""

from __future__ import annotations

from typing import Any

NOT_A_CLASS = 7


class Boxed:
    """A model of a framework that nobody knows."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self.arrays = arrays


class BoxedModel:
    def __init__(self, box: Boxed) -> None:
        self._box = box

    @staticmethod
    def accepts(model: object) -> bool:
        return isinstance(model, Boxed)

    def get(self) -> dict[str, Any]:
        return {name: array.copy() for name, array in self._box.arrays.items()}

    def set(self, arrays: Any) -> None:
        self._box.arrays = {name: array.copy() for name, array in arrays.items()}


class Greedy(BoxedModel):
    """Accepts everything."""

    @staticmethod
    def accepts(model: object) -> bool:
        return True


class Failing(BoxedModel):
    """Fails when it is asked."""

    @staticmethod
    def accepts(model: object) -> bool:
        raise KeyError("device")


class Unmade(BoxedModel):
    """Fails when it is made."""

    def __init__(self, box: Boxed) -> None:
        raise ValueError("no such layer")


class Half:
    """Lacks what writes weights."""

    @staticmethod
    def accepts(model: object) -> bool:
        return True

    def get(self) -> dict[str, Any]:
        return {}
