"""Whether a connection lives: what is heard of it counts, and bytes that it takes. Pure: times come from outside.

A late answer to a ping says nothing while bytes pass: it stands behind them. So a connection is cut only when nothing
was heard for a while, and nothing of what was to be sent has been taken either.
"""

from __future__ import annotations

from heliograph.bus.link_pace import LinkPace

SILENCE = 2.0
"""Seconds without a sign of life after which a connection counts as cut, on a link that is fast."""


class LinkLife:
    """The life of one connection.

    Args:
        silence: seconds without a sign of life that count as the end, beside what the link's pace explains.
    """

    def __init__(self, pace: LinkPace, silence: float, now: float) -> None:
        self._pace = pace
        self._silence = silence
        self._heard = now
        self._heard_at = 0
        """Bytes written when last heard."""
        self.written = 0
        """Bytes written; heartbeats are no part of them."""
        self.taken = 0
        """Bytes that the other side's machine had acknowledged when last looked."""
        self.took = now
        """When it was last seen to take some."""

    def heard(self, now: float) -> None:
        """Note that bytes have come."""
        self._heard = now
        self._heard_at = self.written

    def wrote(self, size: int) -> None:
        """Note that bytes wait to be sent."""
        self.written += size

    def look(self, waiting: int, now: float) -> None:
        """Note how many of the bytes written wait. Heartbeats among them are no life: a machine takes them for a
        process that hangs."""
        if (taken := self.written - waiting) > self.taken:
            self.taken = taken
            self.took = now

    def stood(self, seconds: float, now: float) -> None:
        """Note that this process has not run for so long: what has come meanwhile has not been read yet."""
        self._heard = min(now, self._heard + seconds)
        self.took = min(now, self.took + seconds)

    def is_cut(self, now: float) -> bool:
        """Return whether nothing has been heard or taken for too long."""
        unheard = self.written - self._heard_at
        return now - max(self._heard, self.took) > self._silence + self._pace.allowance(unheard)


class AnswerWait:
    """How long to wait for the answer to what is written now; its time begins when the other side has taken that.

    Args:
        seconds: time for the answer on a fast link.
    """

    def __init__(self, life: LinkLife, pace: LinkPace, seconds: float, size: int, now: float) -> None:
        self._life = life
        self._pace = pace
        self._seconds = seconds
        self._size = size
        self._end = life.written + size
        self._began = now
        self._was_taken = False

    def due(self) -> float:
        """Return when the answer is late, as far as is known now."""
        if not self._was_taken:
            self._began = max(self._began, self._life.took)
            self._was_taken = self._life.taken >= self._end
        return self._began + self._seconds + self._pace.allowance(self._size)
