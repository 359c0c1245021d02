"""How fast a link is, as its transfers show: how much to send before an acknowledgement, how long to wait for one.

One object stands for all connections of one bus. Whoever sends much (the replay of a journal, the parts of a blob)
sends ``window`` bytes, waits until they are acknowledged, and says how long that took. Whoever waits for an answer, or
for a sign of life, waits longer on a link that takes long. Pure: times come from outside.
"""

from __future__ import annotations

LEAST_WINDOW, FIRST_WINDOW, MOST_WINDOW = 2 * 1024, 16 * 1024, 4 * 1024 * 1024
"""Bytes to send before their acknowledgement: at least, at first, at most."""
TARGET = 2.0
"""Seconds that a window is to take at least: shorter ones would not fill a link, longer ones keep others waiting."""
ROUND_TRIPS = 3
"""Round trips that a window is to take at least: the link is idle for one of them."""
UNKNOWN_RATE = 2000.0
"""Bytes per second that a link is trusted to carry, as long as nothing is known of it: 16 kbit/s."""
LONGEST_ALLOWANCE = 120.0
"""Seconds by which any waiting is made longer, at most."""
_PART_SECONDS = 0.5
"""Seconds that one message of a long transfer is to take at most: a broker pings, and hears no answer meanwhile."""
_LEAST_PART = 1024
_FADES = 0.99
"""What is left of a round trip that was measured, at each later one: a route may become shorter."""


class LinkPace:
    """The pace of one link.

    Attributes:
        window: bytes to send before their acknowledgement.
        rate: bytes per second that were acknowledged last; None while nothing is known.
        round_trip: seconds of a round trip without others' bytes in front; 0 while nothing is known.
    """

    def __init__(self, window: int = FIRST_WINDOW) -> None:
        self.window = window
        self.rate: float | None = None
        self.round_trip = 0.0

    def acknowledged(self, size: int, seconds: float) -> None:
        """Note that ``size`` bytes, sent at once, were acknowledged after ``seconds``."""
        target = self._target
        rate = max(1.0, size / max(seconds - self.round_trip, seconds / ROUND_TRIPS, 1e-6))
        if seconds < target and size < self.window / 2:  # too few waited to fill the window: they say little
            self.rate = max(rate, self.rate or 0.0)
            return
        self.rate = rate
        self.window = _bounded(min(2.0 * self.window, max(self.window / 2.0, size * target / max(seconds, 1e-6))))

    def lost(self) -> None:
        """Note that a connection ended with bytes under way: half as many might have passed."""
        self.window = _bounded(self.window / 2.0)
        if self.rate is not None:
            self.rate = max(1.0, self.rate / 2)

    def answered(self, seconds: float) -> None:
        """Note that a ping was answered after ``seconds``. What waited in front of it makes it late: the shortest
        counts, and is forgotten slowly."""
        self.round_trip = min(seconds, self.round_trip / _FADES) if self.round_trip else seconds

    def allowance(self, size: int = 0) -> float:
        """Return the seconds that an answer may be late because of the link, with ``size`` bytes before it."""
        rate = UNKNOWN_RATE if self.rate is None else self.rate / 2
        return min(ROUND_TRIPS * self.round_trip + size / rate, LONGEST_ALLOWANCE)

    @property
    def stream(self) -> int | None:
        """Bytes that may wait for their acknowledgement where messages are sent one after the other, without a wait
        between windows; None while nothing is known."""
        return None if self.rate is None else max(self.window, int(self.rate * TARGET))

    @property
    def part(self) -> int:
        """Return the bytes that one message of a long transfer may have."""
        if self.rate is None:
            return _LEAST_PART * 4
        return max(_LEAST_PART, int(self.rate * _PART_SECONDS))

    @property
    def _target(self) -> float:
        return max(TARGET, ROUND_TRIPS * self.round_trip)


def _bounded(window: float) -> int:
    return int(min(max(window, LEAST_WINDOW), MOST_WINDOW))
