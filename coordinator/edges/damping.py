"""Damping: an edge whose link comes and goes is shown online only once it has been steady. Pure.

An edge that goes offline is shown offline at once. One that returns is shown online at once, unless it has returned too
often within a short time. Damping affects the status and the edges that a round waits for; an edge replays its events
as soon as it is connected.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = 30.0
"""Seconds in which returns are counted."""
MAX_RETURNS = 3
"""Returns within the window that count as normal."""
STEADY = 5.0
"""Seconds without a cut after which a flapping edge is shown online again."""


@dataclass(frozen=True)
class Damped:
    """One edge's connection, damped. Times are monotonic seconds.

    Attributes:
        online: whether the edge is connected to the broker.
        returns: times of its returns within the window before the last change.
    """

    online: bool = False
    returns: tuple[float, ...] = ()

    def after(self, online: bool, now: float) -> Damped:
        """Return the state after a change that the broker reports."""
        kept = tuple(each for each in self.returns if now < each + WINDOW)
        return Damped(online, (*kept, now) if online and not self.online else kept)

    def flaps(self, now: float) -> int:
        """Return the number of returns within the window; 0 while that is normal."""
        lately = sum(now < each + WINDOW for each in self.returns)
        return lately if lately > MAX_RETURNS else 0

    def shown_online(self, now: float) -> bool:
        """Return whether to show the edge online."""
        return self.online and (len(self.returns) <= MAX_RETURNS or now >= self.returns[-1] + STEADY)

    def next_change_in(self, now: float) -> float | None:
        """Return the seconds until ``shown_online`` or ``flaps`` changes by itself; None where they do not.

        Add times exactly as the other methods do: a rounding error could otherwise make a change due for ever.
        """
        steady = self.returns[-1] + STEADY - now if self.online and not self.shown_online(now) else None
        calm = self.returns[-MAX_RETURNS - 1] + WINDOW - now if self.flaps(now) else None
        waits = [each for each in (steady, calm) if each is not None]
        return max(0.0, min(waits)) if waits else None
