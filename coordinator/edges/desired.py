"""Write the edges' desired documents where their content has changed, each with the next generation and only with
fields and roles that its agent's version can read.

Each is written by compare-and-set: a coordinator that has lost its lease without knowing it cannot replace its
successor's document by an older one.

A rebuilt or restored cloud counts its epochs anew, and an edge follows no document that is not above the one it has. So
an edge whose report, or whose stored document, is above the coordinator's epoch gets documents of an epoch above that.
Each edge's word concerns its own documents alone: a hostile one cannot use up the epochs of all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping

from heliograph.bus.contract import topics
from heliograph.bus.contract.lanes import EXPECTED_LAST
from heliograph.bus.contract.payloads import Desired, EdgeLoop, EdgeQueue, Generation, WorkerTask
from heliograph.bus.contract.payloads.base import MAX_COUNT
from heliograph.bus.contract.resources import Dataset, DatasetSpec
from heliograph.bus.port import Port
from heliograph.coordinator.edges.readers import Reader, reader_of
from heliograph.core.breaks import Breaks
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import Conflict, HeliographError, Refused
from heliograph.core.failures import Failures, is_milestone
from heliograph.core.names import CLOUD

EDGES_PER_SLICE = 256
"""Edges whose documents are compared before a break may be due."""
NOTHING = Generation()


async def _not_known() -> bool:
    return False


class DesiredWriter:
    """Publishes desired documents, in order per edge.

    Args:
        version: returns the version that an edge's agent has reported; empty where it has not reported yet.
        warn: called with a line for each task that is left out because its agent is too old.
        signer: signs each document; without one they are unsigned.
        observed: returns the generation that an edge has reported.
        is_newest: returns whether no coordinator has taken a later epoch than this one; by default nobody knows.

    Attributes:
        unpublished: edges whose newest document could not be published; the next ``write`` retries them.
    """

    def __init__(
        self, port: Port, epoch: int, version: Callable[[str], str] = lambda edge: "",
        warn: Callable[[str], None] = lambda line: None, signer: Ed25519Signer | None = None,
        observed: Callable[[str], Generation] = lambda edge: NOTHING,
        is_newest: Callable[[], Awaitable[bool]] = _not_known,
    ) -> None:  # fmt: skip
        self._observed = observed
        self._is_newest = is_newest
        self._floors: dict[str, int] = {}
        """By edge, the epoch of its documents where it must be above this coordinator's."""
        self._port = port
        self._epoch = epoch
        self._signer = signer
        self._version = version
        self._warn = warn
        self._failures = Failures(warn)
        self._n = 0
        self._written: dict[str, Desired] = {}
        self._readers: dict[str, Reader] = {}
        self._sequences: dict[str, int] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.unpublished: set[str] = set()

    async def write(self, wanted: Mapping[str, tuple[list[WorkerTask], dict[str, DatasetSpec]]]) -> None:
        """Write the documents whose content is new."""
        await self.publish(await self.decide(wanted, Breaks(self._port.world)))

    async def decide(
        self,
        wanted: Mapping[str, tuple[list[WorkerTask], dict[str, DatasetSpec]]],
        breaks: Breaks,
        label_queues: Mapping[str, EdgeQueue] | None = None,
        loops: Mapping[str, Mapping[str, EdgeLoop]] | None = None,
        projects: Mapping[str, str] | None = None,
    ) -> list[Desired]:
        """Return the documents whose content is new, for ``publish``. Never decide twice at once.

        Args:
            label_queues: queues whose tasks every edge but the cloud hands out.
            loops: edge to the loops of incremental learning that its agent runs by itself.
            projects: uid of each resource that is not of the project ``default``, to its project.
        """
        on_edges, in_cloud = dict(label_queues or {}), dict[str, EdgeQueue]()
        fresh, no_loops = [], dict[str, EdgeLoop]()
        for number, (edge, (tasks, datasets)) in enumerate(wanted.items()):
            if number % EDGES_PER_SLICE == 0:
                await breaks.take()
            before, reader = self._written.get(edge), reader_of(self._version(edge))
            of_edge = loops.get(edge, no_loops) if loops else no_loops
            placed = _projects_of(tasks, of_edge, projects) if projects else {}
            if (
                before is not None
                and before.tasks == tasks
                and before.datasets == datasets
                and before.label_queues == (in_cloud if edge == CLOUD else on_edges)
                and before.loops == of_edge
                and before.projects == placed
                and ((known := self._readers[edge]) is reader or known == reader)
                and edge not in self.unpublished
                and not self.is_ahead(edge)
            ):
                continue
            self._n += 1
            generation = Generation(epoch=self._epoch_for(edge), n=self._n)
            desired = Desired(
                edge=edge, generation=generation, tasks=tasks, datasets=datasets,
                label_queues=in_cloud if edge == CLOUD else on_edges,
                loops=dict(of_edge), projects=placed,
            )  # fmt: skip
            self._written[edge], self._readers[edge] = desired, reader
            self.unpublished.discard(edge)
            fresh.append(desired)
        return fresh

    async def publish(self, fresh: Iterable[Desired]) -> None:
        """Publish new documents. One that a newer decision has replaced meanwhile is left out."""
        await asyncio.gather(*(self._publish(desired) for desired in fresh))

    def newest(self, edge: str) -> Desired | None:
        """Return the newest document of an edge; None where none has been written yet."""
        return self._written.get(edge)

    def is_ahead(self, edge: str) -> bool:
        """Return whether the edge has reported a later generation than that of its document: of a cloud that was lost
        or restored, or of a document that somebody has published again."""
        written = self._written.get(edge)
        return (
            written is not None
            and (observed := self._observed(edge)).order > written.generation.order
            and observed.epoch < MAX_COUNT
        )

    async def restore(self, edges: Iterable[str]) -> None:
        """Let the next ``write`` replace what somebody else has published in place of these edges' documents, of those
        that have not reported the generation that was written for them."""
        for edge in edges:
            written, sequence = self._written.get(edge), self._sequences.get(edge)
            if written is None or sequence is None or self._observed(edge).order >= written.generation.order:
                continue
            with contextlib.suppress(HeliographError):
                present = await self._port.bus.last(topics.TASK.at(edge=edge))
                # a server of a cluster may be behind, and answer with an earlier one
                if present is not None and present.sequence > sequence == self._sequences.get(edge):
                    self._retry(written)

    def forget(self, edge: str) -> None:
        """Forget a deleted edge's document; if it returns, it is written a new one."""
        for known in (self._written, self._readers, self._sequences, self._locks, self._floors):
            known.pop(edge, None)
        self.unpublished.discard(edge)

    async def _publish(self, desired: Desired) -> None:
        edge = desired.edge
        async with self._locks[edge]:
            if self._written.get(edge) is not desired:
                return  # a newer one waits for the lock, or the edge is deleted
            try:
                expected = self._sequences.pop(edge, None)
                if expected is None:
                    expected = await self._newest_sequence(desired)
                self._sequences[edge] = await self._port.publish(
                    topics.TASK, desired, headers={EXPECTED_LAST: str(expected)},
                    without=self._readers[edge].without, edge=edge, signer=self._signer,
                )  # fmt: skip
            except HeliographError:
                self._retry(desired)  # the next resync retries
            except Exception as error:  # also tried again, with the next coordinator's code at the latest
                self._retry(desired)
                self._failures.add(f"desired document of edge {edge}", error)

    def _epoch_for(self, edge: str) -> int:
        """Return the epoch of an edge's next document: this coordinator's, or one above what the edge has."""
        observed = self._observed(edge)
        if self.is_ahead(edge) or (edge not in self._written and self._epoch <= observed.epoch < MAX_COUNT):
            self._raise_floor(edge, observed.epoch + 1)
        return max(self._epoch, self._floors.get(edge, 0))

    def _raise_floor(self, edge: str, epoch: int) -> None:
        known = edge in self._floors
        self._floors[edge] = max(self._floors.get(edge, 0), epoch)
        if not known and is_milestone(len(self._floors)):  # a rebuilt cloud meets a thousand of them
            self._warn(f"edge {edge} has a document of a later epoch than this cloud's {self._epoch}: the cloud was "
                       "restored or rebuilt, or somebody has published an old document again. It gets documents of "
                       f"epoch {self._floors[edge]} ({len(self._floors)} edges so far)")  # fmt: skip

    def _retry(self, desired: Desired) -> None:
        if desired.edge in self._written:  # else the edge has been deleted
            self.unpublished.add(desired.edge)

    async def _newest_sequence(self, mine: Desired) -> int:
        """Return the sequence of the edge's present document. Raise Conflict where that is above ``mine``: a newer
        coordinator wrote it, or it is of a cloud's earlier life; then the next one is above it."""
        edge = mine.edge
        message = await self._port.bus.last(topics.TASK.at(edge=edge))
        if message is None:
            return 0
        try:
            received = self._port.read(topics.TASK, message)
            if self._signer is not None:
                received.check_signature((self._signer.public,), "this coordinator")
        except Refused:
            return message.sequence  # unreadable, or not ours: no agent follows it
        present = received.payload.generation
        if present.order <= mine.generation.order:
            return message.sequence
        if present.epoch < MAX_COUNT and await self._is_newest():
            self._raise_floor(edge, present.epoch + 1)
        raise Conflict(f"desired document of {edge}: generation {present} is above {mine.generation}")


def _projects_of(
    tasks: Iterable[WorkerTask], loops: Mapping[str, EdgeLoop], projects: Mapping[str, str]
) -> dict[str, str]:
    uids = {*(task.job_uid for task in tasks), *(loop.uid for loop in loops.values())}
    return {uid: projects[uid] for uid in sorted(uids) if uid in projects}


def datasets_of(edge: str, datasets: Iterable[Dataset]) -> dict[str, DatasetSpec]:
    """Return the data sets that an edge has to index: the data set names this edge, or no edge at all."""
    return {
        each.name: each.spec
        for each in datasets
        if is_indexed(each) and each.spec.node_name in (edge, None) and (each.spec.node_name or edge != CLOUD)
    }


def is_indexed(dataset: Dataset) -> bool:
    """Return whether edges index a data set: its document names a file, uploaded samples that lie in a bucket, or
    telemetry."""
    content = dataset.spec.content
    if dataset.spec.url is not None or dataset.spec.telemetry is not None:
        return True
    return content is not None and content.inline is None
