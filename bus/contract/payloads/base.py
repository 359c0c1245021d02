"""Base class and field types of all payloads."""

from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, StringConstraints

from heliograph.core.names import Label

Text = Annotated[str, StringConstraints(max_length=4096)]
EdgeName = Label
MAX_COUNT = (1 << 53) - 1
"""The largest count: also programs that read numbers as floats see it exactly, and a sum of a thousand has 64 bits."""
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Bucket = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}$")]
MAX_METRICS, MAX_METRIC_NAME, MAX_METRIC = 64, 128, 1e300
"""Metrics of an update or an evaluation, characters of a metric's name, and magnitude of its value, at most."""


def _usable_metrics(given: Any) -> Any:
    """Return the metrics within the bounds: one that diverged costs neither the update nor the other metrics."""
    if not isinstance(given, Mapping):
        return given
    usable = ((name, value) for name, value in given.items() if _is_usable(name, value))
    return dict(islice(usable, MAX_METRICS))


def _is_usable(name: object, value: object) -> bool:
    named = isinstance(name, str) and 0 < len(name) <= MAX_METRIC_NAME and name.isprintable()
    return named and isinstance(value, (int, float)) and -MAX_METRIC <= value <= MAX_METRIC  # False for NaN


Metrics = Annotated[
    dict[Annotated[str, StringConstraints(max_length=MAX_METRIC_NAME)], float],
    Field(max_length=MAX_METRICS),
    BeforeValidator(_usable_metrics),
]
"""Metrics by name. A reader drops those that are not finite, too large, or too many."""


class Payload(BaseModel):
    """Base of all payloads. Validation ignores unknown fields, because a sender may be of another version, and refuses
    NaN and infinity."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, defer_build=True)

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Read a payload that was stored as JSON; ignore unknown fields at every depth, as in a message.

        Raises pydantic's ValidationError.
        """
        return cls.model_validate_json(text, extra="ignore")


class Anything(BaseModel):
    """A mapping whose fields the application defines."""

    model_config = ConfigDict(extra="allow")


class AnyData(RootModel[Any]):
    """What a device says: a mapping, a list, a number, a text, bytes, or nothing. ``datacontenttype`` of its event says
    what a text or bytes are."""
