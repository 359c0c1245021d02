"""One recorded message of a trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Recorded:
    """A message as the recorder received it.

    Attributes:
        topic: address below the root.
        body: the bytes of the message, unchanged.
        log_time: time at which the broker stored the message, or else at which the recorder received it, in
            nanoseconds since 1970.
        publish_time: the event's own time, or else ``log_time``, in nanoseconds since 1970.
        headers: the headers of its lane (see ``bus.contract.lanes``); no others are recorded.
        retained: True if the broker had the message before the recording began.
    """

    topic: str
    body: bytes
    log_time: int
    publish_time: int
    headers: Mapping[str, str] = field(default_factory=dict)
    retained: bool = False
