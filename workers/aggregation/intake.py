"""The intake of updates: judge each as it comes, then fetch, check and stage it on this node's disk."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from heliograph.bus.blob_sources import Uploads
from heliograph.bus.contract.payloads import ModelUpdate, RoundSpec
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import MODEL_UPDATE
from heliograph.bus.port import Port, Received
from heliograph.bus.transport import Message
from heliograph.bus.weights_transfer import fetch_weights
from heliograph.core.errors import Damaged, HeliographError, Refused
from heliograph.core.failures import Failures, is_milestone, sentence_of
from heliograph.core.tasks import retry_until_reachable
from heliograph.workers.aggregation.checks import CheckedWeights, check_claims, check_size
from heliograph.workers.aggregation.decoding import DECODED, encoding_of
from heliograph.workers.aggregation.leftovers import update_name
from heliograph.workers.aggregation.round import Collection, Staged

FETCHES = 32
"""Updates fetched at the same time, at most: a slow edge must not hold up the others. Each has one window of chunks
under way."""
MAX_AHEAD = 8
"""Updates of one edge that wait for the next round, at most; further ones are counted as duplicates."""
KNOWN_ENDS = 16
"""Closed rounds of which the intake knows when they ended, to say by how much an update is late."""
SAID = 10
"""Lines about one edge's updates in a round, at most; then only the 100th, 1000th, …"""
Check = Callable[[Path | bytes, Path], CheckedWeights]


class _SentDamaged(Exception):
    """An edge sends other bytes than those of its update's digest."""


class Intake:
    """Takes updates for one round after the other; between two rounds updates wait for the next one.

    Args:
        directory: directory of staged updates.

    Attributes:
        open: the open round; None between two rounds.
        changed: set whenever the round may be due to close.
    """

    def __init__(self, port: Port, uploads: Uploads, directory: Path) -> None:
        self._port = port
        self._world = port.world
        self._uploads = uploads
        self._directory = directory
        self._check: Check | None = None
        self._most: int | None = None
        self._ahead: list[tuple[Received[ModelUpdate], int, float]] = []
        self._ahead_of: Counter[str] = Counter()
        """By edge: how many of its updates wait for the next round."""
        self._said: Counter[str] = Counter()
        self._failures = Failures(self._world.say)
        self._uninvited: dict[str, tuple[Received[ModelUpdate], int]] = {}
        """Updates of the open round from edges that are no participants now; they may become participants again when
        all others have gone."""
        self._ends: dict[int, tuple[float, frozenset[str]]] = {}
        """Closed round to the monotonic seconds of its deadline, or of its close if that came first, and the edges that
        could be reached then."""
        self._position = 0
        self._fetching = asyncio.Semaphore(FETCHES)
        self._stages: dict[str, asyncio.Task[None]] = {}
        """By edge: the task that fetches and checks its update of the open round."""
        self.open: Collection | None = None
        self.changed = asyncio.Event()

    @property
    def next_sequence(self) -> int:
        """Sequence in the stream of updates at which the next round begins."""
        return min((sequence for _, sequence, _ in self._ahead), default=self._position + 1)

    async def follow(self, job: str, start: int, consumer: str) -> None:
        """Read the job's updates from a sequence of their stream, until cancelled.

        Args:
            consumer: name of the consumer at the broker.
        """
        async with self._port.bus.consume(MODEL_UPDATE.filter(job=job), start=start, name=consumer) as messages:
            async for message in messages:
                self._position = message.sequence
                with self._failures.contain(message.topic):
                    self._read(message)

    def begin(self, collection: Collection, check: Check, most: int | None = None) -> None:
        """Open a round.

        Args:
            check: checks an update's weights, and decodes them into a file beside the path that it gets; raises
                Refused.
            most: bytes of an update's weights, at most; None where there is no base model yet.
        """
        self.open, self._check, self._most = collection, check, most
        waiting, self._ahead = self._ahead, []
        self._ahead_of.clear()
        self._said.clear()
        for received, sequence, came in waiting:
            with self._failures.contain(received.message.topic):
                self.receive(received, sequence, came)
        self.changed.set()

    def change_participants(self, spec: RoundSpec) -> None:
        """Change the open round's participants, and judge the updates of edges again that were none before."""
        if self.open is None:
            return
        self.open.spec = spec
        waiting, self._uninvited = self._uninvited, {}
        for received, sequence in waiting.values():
            self.receive(received, sequence)
        self.changed.set()

    def close(self) -> Collection:
        """Close the open round: updates on their way are late, updates of edges that were not asked are refused."""
        assert self.open is not None
        collection, self.open = self.open, None
        end = min(self._world.monotonic(), collection.deadline)
        self._ends[collection.round] = end, frozenset(collection.spec.reachable)
        self._ends = dict([*self._ends.items()][-KNOWN_ENDS:])
        for edge, (received, _) in sorted(self._uninvited.items()):
            why = f"edge {edge} was not asked in round {collection.round}"
            collection.refuse(edge, collection.round, why, blob_of(received.payload))
            collection.uplink_bytes += inline_size(received.payload)
        self._uninvited.clear()
        for edge in collection.mark_staging_late():
            self._stages[edge].cancel()  # else it would retry for ever, in the place of another fetch
        return collection

    def cancel(self) -> None:
        """Stop fetching and checking."""
        for task in self._stages.values():
            task.cancel()

    def receive(self, received: Received[ModelUpdate], sequence: int, came: float | None = None) -> None:
        """Judge an update from a sequence of the stream, and stage or note it.

        Args:
            came: monotonic seconds at which it came, if not now.
        """
        collection, came = self.open, self._world.monotonic() if came is None else came
        update, edge = received.payload, received.params["edge"]
        judgement, reason = collection.judge(update, edge) if collection is not None else ("ahead", "")
        if judgement == "ahead" and self._ahead_of[edge] < MAX_AHEAD:
            self._ahead_of[edge] += 1
            self._ahead.append((received, sequence, came))
        if collection is None or judgement == "ahead":
            return
        if judgement not in ("duplicate", "uninvited"):
            collection.uplink_bytes += inline_size(update)
        if update.stop and judgement not in ("foreign", "refused"):
            collection.stopping.add(edge)
        if judgement == "duplicate":
            collection.duplicates += 1
        elif judgement == "late":
            collection.note_late(edge, update.round, reason, blob_of(update), self._late_by(edge, update.round, came))
            self._say(edge, f"late: {edge}: {reason}")
        elif judgement == "uninvited":
            self._uninvited.setdefault(edge, (received, sequence))
        elif judgement == "foreign":
            collection.note_foreign(edge, update.round, reason)
            self._say(edge, f"refused: {edge}: {reason}")
        elif judgement == "refused":
            collection.refuse(edge, update.round, reason, blob_of(update))
            self._say(edge, f"refused: {edge}: {reason}")
        else:
            collection.staging[edge] = update
            collection.seconds[edge] = round(max(0.0, came - collection.began), 3)
            self._stages[edge] = asyncio.create_task(self._stage(collection, update, edge))
        self.changed.set()

    def _read(self, message: Message) -> None:
        try:
            received = self._port.read(MODEL_UPDATE, message)
        except Refused as error:
            params = MODEL_UPDATE.match(message.topic)
            if self.open is not None and params is not None:
                self.open.refuse(params["edge"], self.open.round, str(error))
                self.changed.set()
            self._say(params["edge"] if params is not None else "", f"refused: {error}")
            return
        self.receive(received, message.sequence)

    def _late_by(self, edge: str, closed: int, came: float) -> float | None:
        """Return the seconds by which an update of a closed round is late; None where nobody knows, or where its edge
        was cut off when the round ended: no deadline would have waited for it."""
        end, reachable = self._ends.get(closed, (0.0, frozenset[str]()))
        return round(max(0.0, came - end), 3) if edge in reachable else None

    async def _stage(self, collection: Collection, update: ModelUpdate, edge: str) -> None:
        """Fetch an update's weights and check them; refuse a bad update with the reason."""
        check, most = self._check, self._most
        assert check is not None
        target = self._directory / update_name(edge, update.weights.digest)
        try:
            check_claims(update, collection.base, collection.spec.samples.get(edge))
            check_size(update.weights.size, most)
            source = await self._source(update.weights, edge, target)
            if isinstance(source, Path):
                collection.uplink_bytes += update.weights.size
            if isinstance(source, bytes) and encoding_of(source) is None:
                checked = check(source, target)
            else:
                checked = await self._world.in_thread(check, source, target)
        except Exception as error:  # whatever the bytes make a reader raise: the other updates are fine
            reason = str(error) if isinstance(error, (HeliographError, OSError)) else sentence_of(error, "its weights")
            collection.staging.pop(edge, None)
            collection.refuse(edge, update.round, reason, blob_of(update))
            with contextlib.suppress(OSError):
                target.unlink(missing_ok=True)
                target.with_name(target.name + DECODED).unlink(missing_ok=True)
            self._say(edge, f"refused: {edge}: {reason}")
        else:
            if collection.staging.pop(edge, None) is not None:
                found = checked._asdict()
                source = found.pop("decoded") or source
                collection.staged[edge] = Staged(update, int(update.num_samples), source, **found)
        self.changed.set()

    def _say(self, edge: str, line: str) -> None:
        """Say a line about an edge's update, at most ``SAID`` of an edge and round, then ever fewer."""
        number = self._said[edge] = self._said[edge] + 1
        if number <= SAID or is_milestone(number):
            self._world.say(line if number <= SAID else f"{line} ({number} updates of {edge} in this round)")

    async def _source(self, ref: WeightsRef, edge: str, target: Path) -> Path | bytes:
        if ref.inline is not None:
            digest = hashlib.sha256(ref.inline).hexdigest()
            if digest != ref.digest or len(ref.inline) != ref.size:
                raise Refused("digest", field="weights.digest", expected=digest, got=ref.digest)
            return ref.inline
        if ref.bucket != upload_bucket(edge):
            expected = f"inline, or on its edge or in {upload_bucket(edge)}"
            raise Refused("invalid", field="weights.bucket", expected=expected, got=ref.bucket)
        try:
            return await retry_until_reachable(partial(self._fetch, ref, edge, target), self._world, self._world.say)
        except _SentDamaged as error:
            raise Refused("digest", field="weights.digest", expected=ref.digest, got=str(error)) from None

    async def _fetch(self, ref: WeightsRef, edge: str, target: Path) -> Path:
        async with self._fetching:  # an update that cannot be had leaves its turn to others between attempts
            source = self._uploads.of(edge)
            try:
                return await fetch_weights(source, ref, target, self._world)
            except Damaged:  # perhaps what lay here of an earlier attempt was
                try:
                    return await fetch_weights(source, ref, target, self._world)
                except Damaged as error:
                    raise _SentDamaged(str(error)) from None


def blob_of(update: ModelUpdate) -> str:
    """Return the digest of weights in their edge's bucket; empty where they came inside the event."""
    return update.weights.digest if update.weights.inline is None else ""


def inline_size(update: ModelUpdate) -> int:
    """Return the bytes of weights that came inside the event; those of a blob come when it is fetched."""
    return len(update.weights.inline) if update.weights.inline is not None else 0
