"""A circuit breaker (Nygard, Release It!): while the cloud does not answer, samples do not wait for it."""

from __future__ import annotations

FAILURES = 3
"""Consecutive failures that open the breaker."""
PROBE_AFTER = 0.5
"""Seconds until an open breaker lets one probe request through."""


class Breaker:
    """A breaker that lets all requests through while closed, none while open, and one probe while half open.

    Callers pass the time, in monotonic seconds.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._probe_at: float | None = None

    @property
    def open(self) -> bool:
        return self._failures >= FAILURES

    def allows(self, now: float) -> bool:
        """Return whether a request may try now; an open breaker allows only the probe that is due."""
        if not self.open:
            return True
        if self._probe_at is None or now < self._probe_at:
            return False
        self._probe_at = now + PROBE_AFTER  # schedule another probe in case this one never reports
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self._probe_at = None

    def failed(self, now: float) -> None:
        self._failures += 1
        if self.open:
            self._probe_at = now + PROBE_AFTER
