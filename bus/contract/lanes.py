"""Lanes: how an event that was carried from a node to the cloud is known again, whatever is repeated.

A lane is (edge, journal uuid, priority); its agent numbers it upwards, in headers and never in the envelope's bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

LANE = "Heliograph-Lane"
NUMBER = "Heliograph-Number"
MESSAGE_ID = "Nats-Msg-Id"
EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
"""Compare-and-set: the place of the address' last message that the publisher knows of."""
REPLAYED = "Heliograph-Replayed"
"""On what is told again from a trace; an event says it in its envelope as well."""


def lane_name(edge: str, journal: str, priority: int) -> str:
    """The name of a lane as its events bear it."""
    return f"{edge}.{journal}.{priority}"


def headers_of(lane: str, number: int) -> dict[str, str]:
    """What an event bears on its way to the cloud; the broker drops what it has seen in the last two minutes."""
    return {LANE: lane, NUMBER: str(number), MESSAGE_ID: f"{lane}.{number}"}


def lane_and_number(headers: Mapping[str, str]) -> tuple[str, int] | None:
    """Lane and number of a carried event; None where it was published in the cloud itself."""
    lane, number = headers.get(LANE), headers.get(NUMBER, "")
    return (lane, int(number)) if lane and number.isdigit() and len(number) < 20 else None


class HighWaterMarks:
    """The highest number seen of each lane, per consumer: what does not lie above it was seen before.

    Marks hold per lane and never across: one mark over two lanes would throw events away.
    """

    def __init__(self) -> None:
        self.marks: dict[str, int] = {}

    def is_new(self, headers: Mapping[str, str]) -> bool:
        """Whether an event was not seen before; notes it. Give it a stream's messages in their order."""
        found = lane_and_number(headers)
        if found is None:
            return True
        lane, number = found
        if number <= self.marks.get(lane, 0):
            return False
        self.marks[lane] = number
        return True
