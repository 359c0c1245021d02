"""The loops of incremental learning as documents in the agent's journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field, ValidationError

from heliograph.bus.contract.payloads.base import Payload, Text
from heliograph.bus.contract.resources import LearningRound, LoopState
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.node_loops import LOOPS

ROUNDS_KEPT = 10
_IDS, _UNUSABLE, INBOX = "loop-ids/", "loop-unusable/", "loop-inbox/"
_ID_BYTES = 32
MOST_UNUSABLE = 10_000
"""Unusable samples that are kept of a loop: the newest. An older one is read once more after a restart."""


class StoredLoop(Payload):
    """One loop of this node.

    Attributes:
        uid: of its job.
        state: the state machine; its references name files of this node's model directory.
        own: model name to the version that this node has deployed by itself; ``before`` the one before it.
        asked: how often each step has been asked for by hand, as far as it is done.
    """

    uid: Text
    state: LoopState = Field(default_factory=LoopState)
    began: Text = ""
    own: dict[str, WeightsRef] = Field(default_factory=dict)
    before: dict[str, WeightsRef] = Field(default_factory=dict)
    asked: dict[str, int] = Field(default_factory=dict)
    rounds: list[LearningRound] = Field(default_factory=list)


class LoopStore:
    """Reads and writes the loops, and which samples their shards have."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def names(self) -> list[str]:
        """Return the names of the loops."""
        return [key.removeprefix(LOOPS) for key, _ in self._journal.documents(LOOPS)]

    def load(self, name: str) -> StoredLoop | None:
        """Return a loop; None where there is none, or it is damaged: then it begins anew."""
        value = self._journal.load(f"{LOOPS}{name}")
        try:
            return StoredLoop.from_json(value) if value else None
        except ValidationError:
            return None

    async def save(self, name: str, stored: StoredLoop) -> None:
        await self._journal.save(f"{LOOPS}{name}", stored.model_dump_json(exclude_defaults=True).encode())

    def used(self, uid: str, next_shard: int) -> set[str]:
        """Return the samples that are in the shards of a loop that it names, or has named."""
        found: set[str] = set()
        for key, value in self._journal.documents(f"{_IDS}{uid}/"):
            number = key.rpartition("/")[2]
            if number.isdigit() and int(number) < next_shard:
                found.update(_ids(value))
        return found

    def unusable(self, uid: str) -> set[str]:
        """Return the labelled samples that were found to be gone, or to have labels that no model learns."""
        return set(_ids(self._journal.load(f"{_UNUSABLE}{uid}")))

    async def leave_out(self, uid: str, ids: Sequence[str]) -> None:
        """Store the unusable samples of a loop, oldest first, in place of those that it had."""
        await self._journal.save(f"{_UNUSABLE}{uid}", _bytes(ids[-MOST_UNUSABLE:]))

    def noted(self, uid: str, number: int) -> list[str]:
        """Return the samples that are noted for a shard."""
        return list(_ids(self._journal.load(f"{_IDS}{uid}/{number}")))

    async def note(self, uid: str, number: int, ids: Sequence[str]) -> None:
        """Store which samples a new shard has, before the loop names it."""
        await self._journal.save(f"{_IDS}{uid}/{number}", _bytes(ids))

    def inbox(self, name: str) -> Iterator[tuple[str, bytes]]:
        """Yield key and body of the candidates and verdicts that have come for a loop, oldest first."""
        yield from self._journal.documents(f"{INBOX}{name}/")

    async def taken(self, key: str) -> None:
        """Delete what has come and is done."""
        await self._journal.delete(key)

    async def forget(self, name: str, uid: str) -> None:
        """Delete a loop whose job is gone."""
        await self._journal.delete(f"{LOOPS}{name}")
        await self._journal.delete(f"{_UNUSABLE}{uid}")
        for prefix in (f"{_IDS}{uid}/", f"{INBOX}{name}/"):
            for key, _ in [*self._journal.documents(prefix)]:
                await self._journal.delete(key)


def _ids(stored: bytes) -> Iterator[str]:
    text = stored.hex()
    return (text[at : at + 2 * _ID_BYTES] for at in range(0, len(text), 2 * _ID_BYTES))


def _bytes(ids: Sequence[str]) -> bytes:
    return b"".join(map(bytes.fromhex, ids))
