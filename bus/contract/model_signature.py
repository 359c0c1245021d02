"""What a file of a whole model says about its inputs and outputs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from heliograph.bus.contract.resources.model import TensorSchema
from heliograph.core.errors import Refused


@dataclass(frozen=True)
class ModelSignature:
    """The inputs and outputs of a model, each with the batch's axis where it has one.

    Attributes:
        classes: the names of the classes in the order of the scores, where the file says them.
    """

    inputs: tuple[TensorSchema, ...]
    outputs: tuple[TensorSchema, ...]
    classes: tuple[str, ...] = field(default=())


def bad_model(file: str, expected: str, got: object, hint: str = "") -> Refused:
    """Return the refusal of a file that is no model of its format."""
    return Refused("bad-weights", topic=file, expected=expected, got=got, hint=hint)
