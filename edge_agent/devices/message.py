"""A message of a device, as the connection hands it over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DeviceMessage:
    """A message.

    Attributes:
        topic: as the broker has it, with the root.
        id: in the broker's session, where the broker sends it again until it is acknowledged (QoS 1); else 0.
        again: whether the broker says that it has sent it before.
        retained: whether the broker kept it from before the subscription.
        content_type: of the payload, where the publisher said one (MQTT 5).
    """

    topic: str
    body: bytes
    id: int = 0
    again: bool = False
    retained: bool = False
    content_type: str = ""


class Acknowledging(Protocol):
    """What takes the acknowledgements, and holds up the broker."""

    def acknowledge(self, ids: Sequence[int]) -> bool:
        """Return False where that is not possible at present."""
        ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Taking(Protocol):
    """What takes the messages."""

    def begin(self, is_known: bool) -> None:
        """Begin a connection. What was not acknowledged on the one before comes again, if the broker knows the
        session, and never otherwise."""
        ...

    def take(self, message: DeviceMessage) -> None: ...

    def settle(self) -> None:
        """Acknowledge what can be: a connection is there."""
        ...
