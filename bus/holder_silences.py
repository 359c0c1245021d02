"""How long to wait for whoever was asked for a blob: longer each time that nothing comes. Links of edges differ."""

from __future__ import annotations

from collections import OrderedDict

SILENCE = 5.6
"""Seconds without a message after which whoever was asked counts as gone, though the broker lives: at first."""
LONGEST_SILENCE = 90.0
"""Seconds without a message of a holder that are borne, at most."""
_MOST = 1024


class HolderSilences:
    """By holder, the seconds without a message after which it counts as gone, and the transfer that nothing came of."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, str, str]] = OrderedDict()

    def of(self, holder: str) -> float:
        """Return the seconds for a holder."""
        return self._known[holder][0] if holder in self._known else SILENCE

    def transfer(self, holder: str, digest: str) -> str:
        """Return the id under which the holder was asked for a blob in vain last, once; empty where it was not."""
        seconds, asked, id = self._known.get(holder, (SILENCE, "", ""))
        if asked != digest:
            return ""
        self._known[holder] = seconds, "", ""
        return id

    def lengthen(self, holder: str, digest: str, id: str) -> None:
        """Note that a holder has sent nothing: its link may be slow."""
        self._known[holder] = min(2 * self.of(holder), LONGEST_SILENCE), digest, id
        self._known.move_to_end(holder)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
