"""The candidates and verdicts of a node's loops: the whole of them stays here, and takes the loop a step further."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from heliograph.bus.contract.event import Event, decode, encode
from heliograph.bus.contract.payloads import Candidate, EdgeLoop, VerdictReport
from heliograph.bus.contract.resources import LoopState
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import CANDIDATE, VERDICT
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import Failures
from heliograph.core.world import World
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.loop_files import LoopFiles
from heliograph.edge_agent.loop_store import INBOX, LoopStore
from heliograph.incremental import loop


class LoopArrivals:
    """What workers send to the loops of a node.

    Args:
        came: called once what has come is on the disk.
    """

    def __init__(
        self, store: LoopStore, files: LoopFiles, world: World, failures: Failures, came: Callable[[], None]
    ) -> None:
        self._came = came
        self._store = store
        self._files = files
        self._world = world
        self._failures = failures
        self._numbers = itertools.count()

    def hold_back(
        self, event: Event, entry: NewEvent, payload: Candidate | VerdictReport, is_wanted: bool
    ) -> NewEvent:
        """Return what is journalled of a candidate or a verdict: what is left of it without weights, and beside it the
        whole of it, for the loop.

        Args:
            is_wanted: whether the loop is still there.
        """
        documents = dict(entry.documents)
        if is_wanted:
            key = f"{INBOX}{payload.job}/{self._world.now():020.6f}-{next(self._numbers):06d}-{event.id}"
            documents[key] = encode(Event(id=event.id, source=event.source, type=event.type, data=event.data,
                                          time=event.time, subject=event.subject))  # fmt: skip
        if isinstance(payload, Candidate):
            bare = WeightsRef(digest=payload.weights.digest, size=payload.weights.size)
            payload = payload.model_copy(update={"weights": bare, "memory": None})
        told = Event(id=event.id, source=event.source, type=event.type,
                     data=payload.model_dump(mode="python", exclude_none=True), time=event.time, subject=event.subject,
                     sequence=event.sequence, traceparent=event.traceparent)  # fmt: skip
        return NewEvent(entry.topic, encode(told), entry.lane, entry.producer, entry.incarnation, entry.sequence,
                        documents, self._came)  # fmt: skip

    async def taken(self, name: str, wanted: EdgeLoop, state: LoopState, now: str) -> LoopState:
        """Return a loop's state after the oldest candidate or verdict that changes it. Each is forgotten once what it
        led to is stored."""
        for key, body in [*self._store.inbox(name)]:
            after = state
            try:
                after = await self._after(name, wanted, state, decode(body, key), now)
            except Refused as error:  # damaged on the disk: it would be in the way of all that come after it
                self._failures.add(f"incremental job {name}", error)
            if after is not state:
                return after
            await self._store.taken(key)
        return state

    async def _after(self, name: str, wanted: EdgeLoop, state: LoopState, event: Event, now: str) -> LoopState:
        """Take a candidate or a verdict; where a file of the candidate is missing or damaged, begin the training once
        more."""
        if event.type == VERDICT.type:
            return loop.judged(state, VERDICT.validate(event.data, event.subject), now)
        came = CANDIDATE.validate(event.data, event.subject)
        if not loop.awaits(state, came):
            return state
        try:
            worker = event.source.split("/")[1]
            weights = await self._files.adopted(worker, came.weights)
            memory = await self._files.adopted(worker, came.memory) if came.memory is not None else None
        except HeliographError as error:
            self._failures.add(f"incremental job {name}", error)
            return loop.spoiled(state, wanted.spec, came, f"its candidate was refused: {error}", now)
        return loop.trained(state, came.model_copy(update={"weights": weights, "memory": memory}), now)
