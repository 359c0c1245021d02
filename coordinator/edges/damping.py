"""Damping: an edge whose link comes and goes is shown online only once it has been steady. Pure.

Going offline is shown at once, and so is a return, but for one of too many within a short time. Only what is shown is
damped, and with it whom a round waits for: an edge replays as soon as it is connected.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = 30.0
"""The window: seconds in which returns are counted."""
MOST = 3
"""Returns within the window that are nothing out of the ordinary."""
STEADY = 5.0
"""Seconds without a cut, after which an edge that flaps is shown online again."""


@dataclass(frozen=True)
class Damped:
    """One edge's connection and what is to be shown of it. Times are monotonic seconds.

    Attributes:
        returns: when it came back, of the window before the last change.
    """

    online: bool = False
    returns: tuple[float, ...] = ()

    def changed(self, online: bool, now: float) -> Damped:
        """Return the state after a change that the broker reports."""
        kept = tuple(each for each in self.returns if now < each + WINDOW)
        return Damped(online, (*kept, now) if online and not self.online else kept)

    def flaps(self, now: float) -> int:
        """How often it has come back lately; 0 where that is nothing out of the ordinary."""
        lately = sum(now < each + WINDOW for each in self.returns)
        return lately if lately > MOST else 0

    def shown(self, now: float) -> bool:
        """Whether it is to be shown online."""
        return self.online and (len(self.returns) <= MOST or now >= self.returns[-1] + STEADY)

    def due_in(self, now: float) -> float | None:
        """Seconds until another look shows something else; None where only a change does.

        Times are added as the others add them: else by a rounding it could be due now and not yet be so, for ever.
        """
        steady = self.returns[-1] + STEADY - now if self.online and not self.shown(now) else None
        calm = self.returns[-MOST - 1] + WINDOW - now if self.flaps(now) else None
        waits = [each for each in (steady, calm) if each is not None]
        return max(0.0, min(waits)) if waits else None
