"""When counts of faults go to the cloud: the first at once, the next ones ever more seldom, news without delay. Pure.

A device that publishes one bad message a second would else send a report a second, for as long as nobody mends it.
"""

from __future__ import annotations

FIRST = 1.0
"""Seconds between the first report of a count and the second; each further wait is twice as long."""
LONGEST = 300.0
"""Seconds between two such reports, at most."""
NEWS = 64
"""News in a row that are told without delay; one more each ``LONGEST`` seconds. Any client has any number of topics."""


class CountPace:
    """The pace of the reports whose counts alone have changed. The wait never shrinks, so that no pattern of faults
    makes more than some 300 of them a day; after as long without one, the next goes at once."""

    def __init__(self) -> None:
        self.due_at = float("-inf")
        """The time from which on a report may go in which counts alone have changed."""
        self._wait = 0.0
        self._news = float(NEWS)
        self._news_at = 0.0

    def told(self, now: float) -> None:
        """Take note that changed counts have gone out, alone or together with something else."""
        self._wait = min(LONGEST, max(FIRST, 2 * self._wait))
        self.due_at = now + self._wait

    def admits_news(self, now: float) -> bool:
        """Return whether a new kind of fault, or a new device's, is told without delay; count it if so."""
        self._news = min(NEWS, self._news + (now - self._news_at) / LONGEST)
        self._news_at = now
        if self._news < 1:
            return False
        self._news -= 1
        return True
