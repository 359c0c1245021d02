"""Which blobs an edge may fetch: those that its desired document names, and the newest models of its jobs. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from heliograph.bus.contract.payloads import Desired
from heliograph.coordinator.garbage.references import digests_in

MAX_AHEAD = 64
"""Jobs of one edge of which the newest model is remembered."""


class AllowedBlobs:
    """What each edge may fetch.

    Args:
        desired: returns the newest desired document of an edge; None where it has none.
    """

    def __init__(self, desired: Callable[[str], Desired | None]) -> None:
        self._desired = desired
        self._named: dict[str, tuple[Desired, frozenset[str]]] = {}
        """By edge, the digests in its document, as far as it has asked since that was written."""
        self._ahead: dict[str, OrderedDict[str, str]] = {}
        """By edge and job, the digest of the model that its next document will name."""

    def may_fetch(self, edge: str, digest: str) -> bool | None:
        """Return whether an edge may fetch a blob; None while nobody can say, since this coordinator has just begun to
        lead and has not written the edge's document yet."""
        if digest in self._ahead.get(edge, {}).values():
            return True
        desired = self._desired(edge)
        return None if desired is None else digest in self._named_in(desired)

    def let_fetch(self, edge: str, job_uid: str, digest: str) -> None:
        """Let an edge fetch the newest model of a job that it takes part in, before its document names it."""
        ahead = self._ahead.setdefault(edge, OrderedDict())
        ahead.pop(job_uid, None)
        ahead[job_uid] = digest
        while len(ahead) > MAX_AHEAD:
            ahead.popitem(last=False)

    def forget(self, edge: str) -> None:
        """Forget a deleted edge."""
        self._named.pop(edge, None)
        self._ahead.pop(edge, None)

    def _named_in(self, desired: Desired) -> frozenset[str]:
        known = self._named.get(desired.edge)
        if known is None or known[0] is not desired:
            known = self._named[desired.edge] = desired, frozenset(digests_in(desired))
        return known[1]
