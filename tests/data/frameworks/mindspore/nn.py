"""The stand-in's networks."""

from __future__ import annotations

from typing import Any


class Cell:
    """Holds parameters by name."""

    def __init__(self, *parameters: Any) -> None:
        self._parameters = {each.name: each for each in parameters}

    def parameters_dict(self) -> dict[str, Any]:
        return dict(self._parameters)
