"""The desired document: the agent reaches the newest, even where messages are lost, late or repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import encode
from heliograph.bus.contract.payloads import Desired, Generation
from heliograph.bus.transport import Message
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import HeliographError
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.edge_agent.desired_document import RESYNC, RESYNC_CALM, SAVE_AGAIN, DesiredDocument
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.pinned_keys import PinnedKeys

PINNED, OTHER = Ed25519Signer(bytes(32)), Ed25519Signer(bytes(31) + b"\x01")
EDGE = "edge-1"
ADDRESS = topics.TASK.at(edge=EDGE)


class Followed:
    """A document, the cloud that publishes it, and the journal that stores it."""

    def __init__(self, node: Any, *trusted: Ed25519Signer) -> None:
        self.node = node
        self.trusted = PinnedKeys(keys=frozenset(each.public for each in trusted)) if trusted else None
        self.journal = Journal(Path("/simulated/journal.db"), EDGE, node.world, warn=node.logged.append)
        self.changes = 0
        self.resyncs: list[float] = []
        self.missing = False
        self.document = self.opened()
        node.cloud.bus.link.listen(lambda up: self.document.look_again() if up else None)

    def opened(self) -> DesiredDocument:
        """Start anew, as a restarted agent does."""
        return DesiredDocument(self.node.cloud, EDGE, self.journal, self.node.background, self._changed,
                               self._resynced, self.node.logged.append, Failures(self.node.logged.append),
                               self.trusted)  # fmt: skip

    @property
    def generation(self) -> tuple[int, int]:
        return self.document.newest.generation.order

    async def publish(
        self, epoch: int, n: int, *, lost: bool = False, edge: str = EDGE, signer: Ed25519Signer | None = None,
    ) -> None:  # fmt: skip
        """Publish a document from the cloud; ``lost``: its message does not reach the agent."""
        desired = Desired(edge=edge, generation=Generation(epoch=epoch, n=n))
        message = Message(ADDRESS, encode(self.node.cloud.event(topics.TASK, desired, ADDRESS), signer=signer))
        if lost:
            self.node.cloud_broker.stream(topics.TASK.stream).append(message, self.node.loop.time())
        else:
            self.node.cloud_broker.publish(ADDRESS, message)
        await self.node.settled()

    def _changed(self) -> None:
        self.changes += 1

    def _resynced(self) -> bool:
        self.resyncs.append(self.node.loop.time())
        return self.missing


def _following(on_node: Any, test: Callable[[Followed], Any], *trusted: Ed25519Signer) -> None:
    async def main(node: Any) -> None:
        it = Followed(node, *trusted)
        running = [node.start(it.document.follow()), node.start(it.document.resync())]
        await node.settled()
        await test(it)
        await cancel_and_wait(*running)
        it.journal.close()

    on_node(main)


def test_a_newer_document_is_taken_and_lies_on_disk_for_the_next_start(on_node: Any) -> None:
    async def test(it: Followed) -> None:
        await it.publish(1, 1)
        await it.publish(1, 2)
        assert (it.generation, it.changes) == ((1, 2), 2)
        again = it.opened()
        assert again.newest.generation.order == (0, 0)
        again.load()
        assert again.newest.generation.order == (1, 2)

    _following(on_node, test)


@given(published=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12))
@settings(max_examples=40, deadline=None)
def test_generations_never_go_back_and_the_newest_is_reached(on_node: Any, published: list[tuple[int, int]]) -> None:
    async def test(it: Followed) -> None:
        newest = (0, 0)
        for epoch, n in published:
            await it.publish(epoch, n)
            newest = max(newest, (epoch, n))
            assert it.generation == newest

    _following(on_node, test)


def test_a_lost_document_comes_with_the_next_resync(on_node: Any) -> None:
    async def test(it: Followed) -> None:
        await it.publish(1, 1)
        await it.publish(1, 2, lost=True)
        assert it.generation == (1, 1)
        await asyncio.sleep(RESYNC)
        assert (it.generation, it.changes) == ((1, 2), 2)

    _following(on_node, test)


def test_a_document_published_while_the_link_was_down_is_read_after_its_return(on_node: Any) -> None:
    async def test(it: Followed) -> None:
        it.node.cloud.bus.lost()
        await it.publish(1, 1)
        await asyncio.sleep(10 * RESYNC)
        assert it.generation == (0, 0)
        it.node.cloud.bus.connect()
        await it.node.settled()
        assert it.generation == (1, 1)

    _following(on_node, test)


def test_resyncs_become_rarer_without_changes_and_stay_frequent_while_something_is_missing(on_node: Any) -> None:
    async def test(it: Followed) -> None:
        await asyncio.sleep(4000)
        waits = [later - before for before, later in zip([0.0, *it.resyncs], it.resyncs, strict=False)]
        assert waits[:4] == [RESYNC, 2 * RESYNC, 4 * RESYNC, 8 * RESYNC]
        assert waits[-1] == RESYNC_CALM
        it.missing = True
        await asyncio.sleep(2 * RESYNC_CALM)
        assert it.resyncs[-1] - it.resyncs[-2] == RESYNC

    _following(on_node, test)


def test_another_edges_document_and_an_invalid_one_change_nothing(on_node: Any) -> None:
    async def test(it: Followed) -> None:
        await it.publish(1, 1)
        await it.publish(1, 2, edge="edge-2")
        it.node.cloud_broker.publish(ADDRESS, Message(ADDRESS, b"no event"))
        await it.node.settled()
        assert (it.generation, it.changes) == ((1, 1), 1)
        assert any("the last one holds" in line for line in it.node.logged)
        await it.publish(1, 3)
        assert it.generation == (1, 3)

    _following(on_node, test)


def test_a_document_on_disk_that_cannot_be_read_waits_for_the_cloud(on_node: Any) -> None:
    async def test(it: Followed) -> None:
        await it.journal.save("desired", b"damaged")
        again = it.opened()
        again.load()
        assert again.newest.generation.order == (0, 0)
        assert any("waiting for the cloud" in line for line in it.node.logged)

    _following(on_node, test)


def test_a_document_that_the_disk_had_no_room_for_is_saved_again(on_node: Any) -> None:
    async def test(it: Followed) -> None:
        save, failing = it.journal.save, 2

        async def full(key: str, value: bytes) -> None:
            nonlocal failing
            if failing:
                failing -= 1
                raise HeliographError("database or disk is full")
            await save(key, value)

        it.journal.save = full  # type: ignore[method-assign]
        assert not it.document.newest.generation.n
        await it.publish(1, 1)
        await asyncio.sleep(3 * SAVE_AGAIN)
        assert not failing and it.document.is_present
        again = it.opened()
        again.load()
        assert again.newest.generation.order == (1, 1) and not again.is_present

    _following(on_node, test)


def test_only_a_pinned_key_steers(on_node: Any) -> None:
    """A forged document changes nothing, however new it says it is: the next true one holds, also after a restart."""

    async def test(it: Followed) -> None:
        await it.publish(1, 1, signer=PINNED)
        assert (it.generation, it.document.refused) == ((1, 1), "")
        for signer, why in ((None, "got none"), (OTHER, f"got one of {OTHER.public.hex()[:12]}")):
            for lost in (False, True):
                await it.publish(1 << 40, 9, signer=signer, lost=lost)
                await asyncio.sleep(RESYNC_CALM)
                assert it.generation == (1, 1)
                assert "expected a signature of the coordinator" in it.document.refused
                assert why in it.document.refused
            assert [line for line in it.node.logged if why in line]
            assert ("enrol the node again" in it.document.refused) is (signer is OTHER)
        again = it.opened()
        again.load()
        assert again.newest.generation.order == (1, 1)
        await it.publish(1, 2, signer=PINNED)
        assert (it.generation, it.document.refused) == ((1, 2), "")

    _following(on_node, test, PINNED)


def test_without_a_pinned_key_signed_and_unsigned_documents_hold(on_node: Any) -> None:
    async def test(it: Followed) -> None:
        await it.publish(1, 1, signer=OTHER)
        await it.publish(1, 2)
        assert (it.generation, it.document.refused) == ((1, 2), "")

    _following(on_node, test)
