"""One recorded message, as a trace holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Recorded:
    """A message as it was seen on a broker.

    Attributes:
        topic: address below the root.
        body: the very bytes that travelled.
        log_time: nanoseconds since 1970 at which the broker had it, or at which it reached the recorder.
        publish_time: nanoseconds since 1970 that the event itself names; ``log_time`` where it names none.
        headers: those that tell where it was carried (see ``bus.lanes``); no others are kept.
        retained: the broker held it before the recording began.
    """

    topic: str
    body: bytes
    log_time: int
    publish_time: int
    headers: Mapping[str, str] = field(default_factory=dict)
    retained: bool = False
