"""The record of a closed round: the aggregation worker's decision, in the key-value bucket ``buckets.ROUNDS``.

It is written once, by compare-and-set, before the event that announces it. Its key is ``<job uid>.<round>``.
"""

from __future__ import annotations

from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.resources.base import WeightsRef

KEPT_ROUNDS = 2
"""How many counted rounds keep their models: the newest, and the one that participants may still be fetching."""
LOOK_BACK = KEPT_ROUNDS + 1
"""How many rounds back from a job's present one may have left something that has to be freed."""


def key_of(job_uid: str, round: int) -> str:
    return f"{job_uid}.{round}"


def prefix_of(job_uid: str) -> str:
    """Return what the keys of one job's records begin with."""
    return f"{job_uid}."


def recent_keys(job_uid: str, round: int) -> list[str]:
    """Return the keys of the rounds that may have left something, ``round`` itself last."""
    return [key_of(job_uid, each) for each in range(max(0, round - LOOK_BACK), round + 1)]


def load(value: bytes) -> Aggregation:
    return Aggregation.from_json(value)


def dump(closed: Aggregation) -> bytes:
    return closed.model_dump_json(exclude_none=True).encode()


def written(closed: Aggregation) -> frozenset[str]:
    """Return the digests of all that the round leaves in the bucket of models."""
    return _blobs(closed.model, closed.state, closed.down) | _personal(closed)


def result(closed: Aggregation) -> frozenset[str]:
    """Return the digests of what outlives the job: the global model, and each edge's own."""
    return _blobs(closed.model) | _personal(closed)


class KeptModels:
    """Which of a job's models stay, with the state and what travels down: those of its newest ``KEPT_ROUNDS`` counted
    rounds, and in the end its result.

    Records are added in the order of their rounds; one that is added again changes nothing. One that counted nobody
    has nothing of its own: it names what the round before left, or a model that is not the job's.
    """

    def __init__(self) -> None:
        self._rounds: dict[int, Aggregation] = {}

    def add(self, closed: Aggregation) -> list[str]:
        """Return the digests that this round makes superfluous."""
        if closed.counted:
            self._rounds[closed.round] = closed
        newest = sorted(self._rounds)[-KEPT_ROUNDS:]
        stays = frozenset[str]().union(*(written(self._rounds[round]) for round in newest))
        gone = self._all() - stays
        self._rounds = {round: self._rounds[round] for round in newest}
        return sorted(gone)

    def end(self) -> list[str]:
        """The job has ended: return the digests of all but its result."""
        stays = result(self._rounds[max(self._rounds)]) if self._rounds else frozenset[str]()
        return sorted(self._all() - stays)

    def _all(self) -> frozenset[str]:
        return frozenset[str]().union(*(written(each) for each in self._rounds.values()))


def _personal(closed: Aggregation) -> frozenset[str]:
    return _blobs(*(closed.personal or {}).values())


def _blobs(*refs: WeightsRef | None) -> frozenset[str]:
    return frozenset(ref.digest for ref in refs if ref is not None and ref.inline is None)
