"""The updates of the open round: judged as they come, then fetched, checked and staged on this node's disk."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from heliograph.bus.contract.payloads import ModelUpdate, RoundSpec, UncountedUpdate
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import MODEL_UPDATE
from heliograph.bus.contract.weights_file import Tensor
from heliograph.bus.port import Port, Received
from heliograph.bus.transport import Message
from heliograph.core.errors import HeliographError, Refused
from heliograph.workers.aggregation.checks import check_claims
from heliograph.workers.aggregation.leftovers import update_name
from heliograph.workers.aggregation.model_files import ModelFiles
from heliograph.workers.aggregation.round import Collection, Staged

FETCHES = 4
"""Updates fetched at the same time."""
Check = Callable[[Path | bytes], Mapping[str, Tensor]]


class Intake:
    """Takes updates for one round after the other; between two rounds they wait for the next one to judge them.

    Args:
        directory: where updates are staged.

    ``changed`` is set whenever the round may be due to close.
    """

    def __init__(self, port: Port, files: ModelFiles, directory: Path) -> None:
        self._port = port
        self._world = port.world
        self._files = files
        self._directory = directory
        self._check: Check | None = None
        self._ahead: list[tuple[Received[ModelUpdate], int]] = []
        self._uninvited: dict[str, tuple[Received[ModelUpdate], int]] = {}
        """Updates of the open round from edges that are not asked now: a round's participants may change, and come
        back, where all of them have gone."""
        self._position = 0
        self._fetching = asyncio.Semaphore(FETCHES)
        self._stages: dict[str, asyncio.Task[None]] = {}
        """By edge: what fetches and checks its update of the open round."""
        self.open: Collection | None = None
        self.changed = asyncio.Event()

    @property
    def next_sequence(self) -> int:
        """Where in the stream of updates the next round begins."""
        return min((sequence for _, sequence in self._ahead), default=self._position + 1)

    async def follow(self, job: str, start: int) -> None:
        """Reads the job's updates from that place in their stream, until cancelled."""
        async with self._port.bus.consume(MODEL_UPDATE.filter(job=job), start=start) as messages:
            async for message in messages:
                self._position = message.sequence
                self._receive(message)

    def begin(self, collection: Collection, check: Check) -> None:
        """A round opens; ``check`` returns what the header of an update's weights says, or raises Refused."""
        self.open, self._check = collection, check
        waiting, self._ahead = self._ahead, []
        for received, sequence in waiting:
            self.take(received, sequence)
        self.changed.set()

    def ask(self, spec: RoundSpec) -> None:
        """The open round's participants have changed: what others sent may be an answer now."""
        if self.open is None:
            return
        self.open.spec = spec
        waiting, self._uninvited = self._uninvited, {}
        for received, sequence in waiting.values():
            self.take(received, sequence)
        self.changed.set()

    def close(self) -> Collection:
        """The open round closes: what is still on its way is late, and who was not asked is refused."""
        assert self.open is not None
        collection, self.open = self.open, None
        for edge, (received, _) in sorted(self._uninvited.items()):
            why = f"edge {edge} was not asked in round {collection.round}"
            collection.refuse(edge, collection.round, why, blob_of(received.payload))
        self._uninvited.clear()
        for edge in collection.give_up():
            self._stages[edge].cancel()  # else it would ask for ever, in the place of another's fetch
        return collection

    def end(self) -> None:
        for task in self._stages.values():
            task.cancel()

    def take(self, received: Received[ModelUpdate], sequence: int) -> None:
        """An update came, from that place in the stream."""
        collection = self.open
        if collection is None:
            self._ahead.append((received, sequence))
            return
        update, edge = received.payload, received.params["edge"]
        judgement, reason = collection.judge(update, edge)
        if judgement == "ahead":
            self._ahead.append((received, sequence))
        elif judgement == "duplicate":
            collection.duplicates += 1
        elif judgement == "late":
            note = UncountedUpdate(edge=edge, round=update.round, reason=reason, digest=blob_of(update))
            collection.late.append(note)
            self._world.say(f"late: {edge}: {reason}")
        elif judgement == "uninvited":
            self._uninvited.setdefault(edge, (received, sequence))
        elif judgement == "foreign":
            collection.foreign.append(UncountedUpdate(edge=edge, round=update.round, reason=reason[:1000]))
            self._world.say(f"refused: {edge}: {reason}")
        elif judgement == "refused":
            collection.refuse(edge, update.round, reason, blob_of(update))
            self._world.say(f"refused: {edge}: {reason}")
        else:
            collection.staging[edge] = update
            self._stages[edge] = asyncio.create_task(self._stage(collection, update, edge))
        self.changed.set()

    def _receive(self, message: Message) -> None:
        try:
            received = self._port.read(MODEL_UPDATE, message)
        except Refused as error:
            params = MODEL_UPDATE.match(message.topic)
            if self.open is not None and params is not None:
                self.open.refuse(params["edge"], self.open.round, str(error))
                self.changed.set()
            self._world.say(f"refused: {error}")
            return
        self.take(received, message.sequence)

    async def _stage(self, collection: Collection, update: ModelUpdate, edge: str) -> None:
        """Fetches an update's weights and checks them; what fails is quarantined with its reason."""
        check = self._check
        assert check is not None
        target = self._directory / update_name(edge, update.weights.digest)
        try:
            check_claims(update, collection.base, collection.spec.samples.get(edge))
            source = await self._source(update.weights, edge, target)
            if isinstance(source, bytes):
                tensors = check(source)
            else:
                tensors = await self._world.in_thread(check, source)
        except (HeliographError, OSError) as error:
            collection.staging.pop(edge, None)
            collection.refuse(edge, update.round, str(error), blob_of(update))
            target.unlink(missing_ok=True)
            self._world.say(f"refused: {edge}: {error}")
        else:
            if collection.staging.pop(edge, None) is not None:
                collection.staged[edge] = Staged(update, int(update.num_samples), source, tensors)
        self.changed.set()

    async def _source(self, ref: WeightsRef, edge: str, target: Path) -> Path | bytes:
        if ref.inline is not None:
            digest = hashlib.sha256(ref.inline).hexdigest()
            if digest != ref.digest or len(ref.inline) != ref.size:
                raise Refused("digest", field="weights.digest", expected=digest, got=ref.digest)
            return ref.inline
        if ref.bucket != upload_bucket(edge):
            expected = f"inline, or in {upload_bucket(edge)}"
            raise Refused("invalid", field="weights.bucket", expected=expected, got=ref.bucket)
        async with self._fetching:
            return await self._files.fetch(ref, target)


def blob_of(update: ModelUpdate) -> str:
    """The digest of weights that lie in their edge's bucket; empty where they came inside the event."""
    return update.weights.digest if update.weights.inline is None else ""
