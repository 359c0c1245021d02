"""The rounds and evaluations of a job that the cloud's streams have, for a login that may read them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import Evaluation
from heliograph.bus.contract.topics import AGGREGATION, EVALUATION
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.tracking.closed_round import ClosedRound, from_close

if TYPE_CHECKING:
    from heliograph.bus.nats.history import Stored
    from heliograph.bus.transport import Bus

OVERLAP = 1.0
"""Seconds that are read again: times are rounded on the way."""


@dataclass(frozen=True)
class StoredEvaluation:
    """Metrics of a round's model on held-out data."""

    number: int
    metrics: dict[str, float]
    time: float


class StoredRounds:
    """Reads on from where it has stopped. Where this login may read no streams there is nothing.

    Args:
        node: the node of the job's evaluation worker, whose evaluations count; empty where it has none.
    """

    def __init__(self, bus: Bus, job: str, uid: str, node: str) -> None:
        self._bus = bus
        self._patterns = [AGGREGATION.at(job=job), EVALUATION.filter(job=job)]
        self._uid = uid
        self._node = node
        self._since = 0.0
        self._readable = True

    async def new(self) -> AsyncIterator[ClosedRound | StoredEvaluation]:
        """Yield what has been stored since the last call, in the order of its storing; the last ones once more. What
        cannot be read is left out: the coordinator has set it aside, too.

        Raise Unreachable where the streams cannot be read to their ends now.
        """
        from heliograph.bus.nats.bus import NatsBus
        from heliograph.bus.nats.history import History

        if not self._readable or not isinstance(self._bus, NatsBus):
            return
        try:
            # a new reader each time: that of before may have ended with its server
            async with History(self._bus, self._patterns, self._since) as history:
                async for stored in history.past():
                    if (found := self._read(stored)) is not None:
                        yield found
                    self._since = max(self._since, stored.time - OVERLAP)
        except Refused:
            self._readable = False
        except Unreachable:
            raise
        except HeliographError as error:
            raise Unreachable(str(error)) from error

    def _read(self, stored: Stored) -> ClosedRound | StoredEvaluation | None:
        try:
            event = decode(stored.body, stored.topic)
            time = _seconds(event.time, stored.time)
            if AGGREGATION.match(stored.topic) is not None:
                close = AGGREGATION.validate(event.data, stored.topic)
                return from_close(close, time) if close.job_uid == self._uid else None
            evaluation: Evaluation = EVALUATION.validate(event.data, stored.topic)
        except Refused:
            return None
        params = EVALUATION.match(stored.topic)
        if evaluation.job_uid != self._uid or params is None or params["edge"] != self._node:
            return None
        return StoredEvaluation(evaluation.round, evaluation.metrics, time)


def _seconds(text: str | None, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(text).timestamp() if text else otherwise
    except ValueError:
        return otherwise
