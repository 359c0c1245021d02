"""The rounds and evaluations of a job that the cloud's streams have, for a login that may read them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import Evaluation
from heliograph.bus.contract.topics import AGGREGATION, EVALUATION
from heliograph.core.errors import Refused
from heliograph.tracking.closed_round import ClosedRound, from_close

if TYPE_CHECKING:
    from heliograph.bus.nats.history import History, Stored
    from heliograph.bus.transport import Bus


@dataclass(frozen=True)
class StoredEvaluation:
    """Metrics of a round's model on held-out data."""

    number: int
    metrics: dict[str, float]
    time: float


class StoredRounds:
    """Reads on from where it has stopped.

    Args:
        node: the node of the job's evaluation worker, whose evaluations count; empty where it has none.
    """

    def __init__(self, history: History, uid: str, node: str) -> None:
        self._history = history
        self._uid = uid
        self._node = node

    async def new(self) -> AsyncIterator[ClosedRound | StoredEvaluation]:
        """Yield what has been stored since the last call, in the order of its storing. What cannot be read is left out:
        the coordinator has set it aside, too."""
        async for stored in self._history.past():
            try:
                found = self._read(stored)
            except Refused:
                continue
            if found is not None:
                yield found

    def _read(self, stored: Stored) -> ClosedRound | StoredEvaluation | None:
        event = decode(stored.body, stored.topic)
        time = _seconds(event.time, stored.time)
        if AGGREGATION.match(stored.topic) is not None:
            close = AGGREGATION.validate(event.data, stored.topic)
            return from_close(close, time) if close.job_uid == self._uid else None
        params = EVALUATION.match(stored.topic)
        evaluation: Evaluation = EVALUATION.validate(event.data, stored.topic)
        if evaluation.job_uid != self._uid or params is None or params["edge"] != self._node:
            return None
        return StoredEvaluation(evaluation.round, evaluation.metrics, time)


@asynccontextmanager
async def stored_rounds(bus: Bus, job: str, uid: str, node: str) -> AsyncIterator[StoredRounds | None]:
    """Yield the stored rounds of a job, from the first one on; None where this login may not read streams."""
    from heliograph.bus.nats.bus import NatsBus

    if not isinstance(bus, NatsBus):
        yield None
        return
    from heliograph.bus.nats.history import History

    history = History(bus, [AGGREGATION.at(job=job), EVALUATION.filter(job=job)], 0)
    try:
        await history.__aenter__()
    except Refused:
        yield None
        return
    try:
        yield StoredRounds(history, uid, node)
    finally:
        await history.__aexit__(None, None, None)


def _seconds(text: str | None, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(text).timestamp() if text else otherwise
    except ValueError:
        return otherwise
