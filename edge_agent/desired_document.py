"""Follow the desired document of this edge, the newest that the cloud publishes, and store it on disk."""

from __future__ import annotations

from collections.abc import Callable

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import Desired, Generation
from heliograph.bus.port import Port, Received
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import Failures
from heliograph.core.tasks import Background, Flag, wait_for
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.pinned_keys import PinnedKeys
from heliograph.edge_agent.worker_reports import refusals

RESYNC = 5.0
RESYNC_CALM = 300.0
"""Seconds between two reads of the newest document: at first, and at most, after a long time without a change."""
NEW_KEYS = ("A cloud that was made anew has other keys than this node knows: then enrol the node again ('heliograph "
            "enroll'), or give its agent the new --coordinator-keys")
SAVE_AGAIN = 1.0
"""Seconds after which a document that the disk had no room for is saved again."""


class DesiredDocument:
    """Follows the document. A message is a hint: the next resync makes up for a lost one.

    Args:
        changed: called when a newer document has come.
        resynced: called after each resync; returns whether the next one is due soon, since something is still missing.
        warn: called with a line about a refused document, or about a task that this agent cannot run.
        trusted: public keys of the coordinator, one of which signs each document; None lets unsigned ones hold.
        told: called when another reason to refuse a document has come: it is reported.
        doubted: called when none of these keys has signed a document: the coordinator may have another one now.
    """

    def __init__(
        self,
        cloud: Port,
        edge: str,
        journal: Journal,
        background: Background,
        changed: Callable[[], None],
        resynced: Callable[[], bool],
        warn: Callable[[str], None],
        failures: Failures,
        trusted: PinnedKeys | None = None,
        told: Callable[[], None] = lambda: None,
        doubted: Callable[[], None] = lambda: None,
    ) -> None:
        self._doubted = doubted
        self._told = told
        self._trusted = trusted
        self._cloud = cloud
        self._edge = edge
        self._journal = journal
        self._background = background
        self._changed = changed
        self._resynced = resynced
        self._warn = warn
        self._failures = failures
        self._refusals = Failures(lambda line: warn(f"desired document refused, the last one holds: {line}"))
        self.newest = Desired(edge=edge, generation=Generation())
        self._read_at = 0
        """Stream sequence of the last document that was read."""
        self._follows = False
        """Whether the subscription exists; it outlives reconnects."""
        self._newer_came = Flag()
        self.refused = ""
        """Why the newest document of the cloud does not hold; empty where it does."""
        self.is_present = False
        """Whether the cloud has told in this life what is desired. The document on disk may be older than what the node
        did before it ended: a full disk loses documents."""

    def load(self) -> None:
        """Read the document from disk, at the agent's start."""
        place = "the desired document on disk"
        with self._failures.contain(place):
            if body := self._journal.load("desired"):
                try:
                    self.newest = topics.TASK.validate(decode(body, place).data, place)
                except Refused as error:
                    self._warn(f"{error}; waiting for the cloud")

    async def follow(self) -> None:
        """Take each published document, until cancelled."""
        async with self._cloud.subscribe(topics.TASK, self._refused, edge=self._edge) as received:
            self._follows = True
            await self.read()
            async for each in received:
                with self._failures.contain(each.message.topic):
                    try:
                        self._accept(each)
                    except Refused as error:
                        self._refused(error)

    async def resync(self) -> None:
        """Re-read the newest document until cancelled, backing off while nothing changes."""
        wait = RESYNC
        while True:
            self._newer_came.clear()
            if await wait_for(self._newer_came, wait):
                wait = RESYNC
                continue
            await self.read()
            wait = RESYNC if self._resynced() else min(2 * wait, RESYNC_CALM)

    async def read(self) -> None:
        """Read the newest document of the stream; keep the known one while the link is down."""
        try:
            message = await self._cloud.bus.last(topics.TASK.at(edge=self._edge))
            if message is not None and message.sequence != self._read_at:
                self._accept(self._cloud.read(topics.TASK, message))
                self._read_at = message.sequence
            self.is_present = True
        except Refused as error:
            self._refused(error)
        except HeliographError:
            return
        except Exception as error:
            self._failures.add(f"desired document of edge {self._edge}", error)

    def look_again(self) -> None:
        """Re-read the document: after the link's return, since messages published meanwhile are lost, and once other
        keys are trusted. A rebuilt cloud may have another document of the same sequence."""
        self._read_at = 0
        if self._follows:
            self._background.spawn(self.read())

    def _accept(self, received: Received[Desired]) -> None:
        desired = received.payload
        if self._trusted is not None:
            try:
                received.check_signature(self._trusted.keys, "the coordinator")
            except Refused as error:
                raise error.hinted(NEW_KEYS) if error.field == "signedby" else error from None
        if desired.edge != self._edge or desired.generation.order <= self.newest.generation.order:
            return
        self.newest, self.refused = desired, ""
        for report in refusals(desired.unsupported):
            self._warn(f"task {report.worker}: {report.detail}")
        self._newer_came.set()
        self._changed()
        # after the work has begun: if a crash loses it, the agent reads the newest document again
        self._background.spawn(self._save(desired, received.message.body))

    async def _save(self, desired: Desired, body: bytes) -> None:
        """Save a document, unless a newer one comes before the disk takes it."""
        while self.newest is desired:
            try:
                await self._journal.save("desired", body)
                return
            except HeliographError as error:
                self._failures.add("the desired document", error)
            await self._cloud.world.sleep(SAVE_AGAIN)

    def _refused(self, error: Refused) -> None:
        self._refusals.add(error.topic, error)
        if error.code == "bad-signature":
            self._doubted()
        if self.refused != str(error):
            self.refused = str(error)
            self._told()
