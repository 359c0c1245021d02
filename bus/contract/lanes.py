"""Lanes: the numbering that identifies an event on its way from a node to the cloud, however often it is repeated.

A lane is (edge, journal uuid, priority). Its agent numbers its events upwards, in headers, never in the envelope.
"""

from __future__ import annotations

from collections.abc import Mapping

LANE = "Heliograph-Lane"
NUMBER = "Heliograph-Number"
MESSAGE_ID = "Nats-Msg-Id"
EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
"""Compare-and-set: stream sequence of the address's last message, as the publisher knows it."""
REPLAYED = "Heliograph-Replayed"
"""Marks a message replayed from a trace; an event is marked in its envelope as well."""


def lane_name(edge: str, journal: str, priority: int) -> str:
    """Return the name of a lane, as the header of its events gives it."""
    return f"{edge}.{journal}.{priority}"


def headers_of(lane: str, number: int) -> dict[str, str]:
    """Return the headers of a forwarded event; the broker drops a message id seen in the last two minutes."""
    return {LANE: lane, NUMBER: str(number), MESSAGE_ID: f"{lane}.{number}"}


def lane_and_number(headers: Mapping[str, str]) -> tuple[str, int] | None:
    """Return lane and number of an event that an agent forwarded; None for one published in the cloud itself."""
    lane, number = headers.get(LANE), headers.get(NUMBER, "")
    whole = number.isascii() and number.isdigit() and len(number) < 20
    return (lane, int(number)) if lane and whole else None


class HighWaterMarks:
    """The highest number that one consumer has seen of each lane. An event not above its lane's mark is a repeat.

    Each lane has a mark of its own: one mark over two lanes would drop events that were never seen.
    """

    def __init__(self) -> None:
        self.marks: dict[str, int] = {}

    def is_new(self, headers: Mapping[str, str]) -> bool:
        """Return whether an event is new, and record it. Call it with a stream's messages in their order."""
        found = lane_and_number(headers)
        if found is None:
            return True
        lane, number = found
        if number <= self.marks.get(lane, 0):
            return False
        self.marks[lane] = number
        return True
