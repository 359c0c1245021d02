"""The values that are tracked of a round, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from heliograph.tracking.closed_round import ClosedRound

COUNTED = "round/counted"
"""The value that each tracked round has."""
TRAIN, TEST, TOTAL, EDGE = "train/", "test/", "total/", "edge/"
MOST_EDGES = 64
"""Edges with values of their own, the first that are counted. More curves nobody looks at."""
_OUTCOMES = ("counted", "late", "refused")


class RoundValues:
    """Makes the values of one round after the other, and keeps the sums over the rounds.

    Args:
        sums: the sums to go on from, by name.
    """

    def __init__(self, sums: Mapping[str, float]) -> None:
        self._sums = {name: value for name, value in sums.items() if _is_sum(name)}

    def of(self, closed: ClosedRound, totals: Mapping[str, int] | None = None) -> dict[str, float]:
        """Return the values of a round.

        Args:
            totals: the job's own sums at this round, which stand above those kept here; None where they are not known.
        """
        values = {f"{TRAIN}{name}": value for name, value in sorted(closed.metrics.items())}
        values |= {"round/samples": closed.samples, "round/seconds": closed.seconds}
        if closed.uplink_bytes:
            values["round/uplink_bytes"] = closed.uplink_bytes
        values |= self._totals(closed, totals) | self._edges(closed)
        return values | {COUNTED: closed.counted}  # last: a round is whole once it has this

    def pass_over(self, closed: ClosedRound) -> None:
        """Add the updates of a round that is not tracked to the job's sums, where they were not counted."""
        self._totals(closed, None)

    def _totals(self, closed: ClosedRound, totals: Mapping[str, int] | None) -> dict[str, float]:
        if totals is None:
            if closed.late is None or closed.refused is None or closed.duplicates is None:
                return {}
            new = {"late": len(closed.late), "refused": len(closed.refused), "duplicates": closed.duplicates,
                   "unnoted": closed.unnoted}  # fmt: skip
            found = {name: self._sums.get(f"{TOTAL}{name}", 0) + count for name, count in new.items()}
        else:
            found = dict(totals)
        values: dict[str, float] = {f"{TOTAL}{name}": found[name] for name in found if name != "unnoted" or found[name]}
        self._sums |= values
        return values

    def _edges(self, closed: ClosedRound) -> dict[str, float]:
        values: dict[str, float] = {}
        for outcome, edges in zip(_OUTCOMES, (closed.edges, closed.late, closed.refused), strict=True):
            for edge, count in Counter(edges or ()).items():
                name = f"{EDGE}{edge}/{outcome}"
                if self._has_room(edge):
                    values[name] = self._sums[name] = self._sums.get(name, 0) + count
        for edge, measure in closed.measured.items():
            if self._has_room(edge):
                told = {"samples": measure.num_samples, "loss": measure.loss, "received_loss": measure.received_loss,
                        "seconds": measure.seconds}  # fmt: skip
                values |= {f"{EDGE}{edge}/{name}": value for name, value in told.items() if value is not None}
        return values

    def _has_room(self, edge: str) -> bool:
        known = {name.split("/")[1] for name in self._sums if name.startswith(EDGE)}
        return edge in known or len(known) < MOST_EDGES


def _is_sum(name: str) -> bool:
    return name.startswith(TOTAL) or (name.startswith(EDGE) and name.rpartition("/")[2] in _OUTCOMES)
