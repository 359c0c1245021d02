"""What an edge hands over lies in its bucket before it is told so, and nothing else lies there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.contract.payloads import UploadOffer
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.topics import UPLOAD_OFFER, UPLOAD_SETTLED
from heliograph.bus.contract.weights_file import dumps
from heliograph.coordinator.blobs.upload_intake import UploadIntake
from heliograph.core.failures import Failures
from heliograph.edge_agent.upload_sender import UploadSender
from tests.virtual_node import EDGE

WEIGHTS = dumps({"w": np.arange(500_000)})


class Intake:
    """The intake in the cloud, and an edge with files."""

    def __init__(self, node: Any, tmp: Path) -> None:
        self.node = node
        self.tmp = tmp
        self.failures: list[str] = []
        self.files: dict[str, Path] = {}
        failures = Failures(self.failures.append)
        intake = UploadIntake(node.coordinator, lambda edge: edge == EDGE, node.background, failures)
        self.settled = node.heard(node.cloud_broker, UPLOAD_SETTLED.at(edge=EDGE))
        self.sending = node.start(UploadSender(node.cloud, EDGE, self.files.get, failures).run())
        self.taking = node.start(intake.run())

    def lay(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        self.files[digest] = self.tmp / digest
        self.files[digest].write_bytes(content)
        return digest

    async def offer(self, digest: str, size: int, seconds: float = 0.0) -> list[tuple[str, bool]]:
        """Offer, and return what was settled since: the digest, and whether it was taken."""
        before = len(self.settled)
        await self.node.cloud.publish(UPLOAD_OFFER, UploadOffer(digest=digest, size=size), edge=EDGE)
        await self.node.world.sleep(seconds)
        await self.node.settled()
        read = [self.node.cloud.read(UPLOAD_SETTLED, each).payload for each in self.settled[before:]]
        return [(digest, not each.reason) for each in read for digest in each.digests]

    @property
    def stored(self) -> dict[str, bytes]:
        return dict(self.node.cloud_broker.blobs.get(upload_bucket(EDGE), {}))


def _with(on_node: Any, tmp_path: Path, test: Callable[[Intake], Any]) -> None:
    async def main(node: Any) -> None:
        it = Intake(node, tmp_path)
        await node.settled()
        await test(it)

    on_node(main)


def test_it_is_settled_once_it_is_stored_and_again_without_another_transfer(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Intake) -> None:
        digest = it.lay(WEIGHTS)
        assert await it.offer(digest, len(WEIGHTS)) == [(digest, True)]
        assert it.stored == {digest: WEIGHTS}
        del it.files[digest]
        assert await it.offer(digest, len(WEIGHTS)) == [(digest, True)]
        assert it.failures == []

    _with(on_node, tmp_path, test)


def test_what_is_no_weights_file_or_is_nowhere_is_never_stored(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Intake) -> None:
        zip_file = it.lay(b"PK\x03\x04" + bytes(1000))
        assert await it.offer(zip_file, 1004) == [(zip_file, False)]
        assert await it.offer("f" * 64, 1004) == [("f" * 64, False)]
        short = it.lay(WEIGHTS)
        assert await it.offer(short, len(WEIGHTS) + 1) == [(short, False)]
        assert await it.offer(short, len(WEIGHTS) - 1) == [(short, False)]
        assert await it.offer(short, 1 << 50) == [(short, False)]
        assert it.stored == {}

    _with(on_node, tmp_path, test)


def test_an_edge_that_goes_away_in_between_is_asked_again_when_it_offers_again(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Intake) -> None:
        digest = it.lay(WEIGHTS)
        it.sending.cancel()
        await it.node.settled()
        assert await it.offer(digest, len(WEIGHTS), 1) == []
        assert len(it.failures) == 1 and "nobody answers for edge edge-1" in it.failures[0]
        it.sending = it.node.start(UploadSender(it.node.cloud, EDGE, it.files.get, Failures(print)).run())
        await it.node.settled()
        assert await it.offer(digest, len(WEIGHTS)) == [(digest, True)]

    _with(on_node, tmp_path, test)


def test_a_name_that_is_no_edge_of_this_cloud_gets_no_bucket(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Intake) -> None:
        offer = UploadOffer(digest="f" * 64, size=1)
        await it.node.cloud.publish(UPLOAD_OFFER, offer, edge="another")
        await it.node.settled()
        assert upload_bucket("another") not in it.node.cloud_broker.blobs

    _with(on_node, tmp_path, test)
