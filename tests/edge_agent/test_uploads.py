"""Weights are held for the cloud before the event that names them goes there; a bad event stops nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.blob_sources import Uploads as CloudUploads
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.payloads import UploadSettled
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.contract.weights_file import dumps
from heliograph.coordinator.blobs.upload_intake import UploadIntake
from heliograph.core.errors import NotHeld, Refused, Unreachable
from heliograph.core.failures import Failures
from heliograph.core.tasks import keep_running
from heliograph.edge_agent.held_uploads import HeldUploads
from heliograph.edge_agent.journal import KeptEvent
from heliograph.edge_agent.upload_sender import UploadSender
from heliograph.edge_agent.uploads import Uploads

EDGE, WORKER = "edge-1", "job-worker"
UPDATE = topics.MODEL_UPDATE.at(job="job", edge=EDGE)
WEIGHTS = dumps({"w": np.arange(1000)})
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
LARGE = {"digest": DIGEST, "size": len(WEIGHTS), "bucket": upload_bucket(EDGE)}
EXEMPLARS = dumps({"x": np.ones((9, 40))})
MEMORY = {"digest": hashlib.sha256(EXEMPLARS).hexdigest(), "size": len(EXEMPLARS), "bucket": upload_bucket(EDGE)}


class Staged:
    """A store of staged files that appear in the directory only when the agent asks for them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.content: dict[tuple[str, str], bytes] = {}

    async def staged(self, worker: str, digest: str) -> Path | None:
        if (worker, digest) not in self.content:
            return None
        file = self._directory / digest
        file.write_bytes(self.content[worker, digest])
        return file

    async def discard(self, worker: str, digest: str) -> None:
        del self.content[worker, digest]

    def sweep(self, wanted: Collection[str]) -> None:
        raise AssertionError

    def path_for(self, worker: str, path: Path) -> str:
        raise AssertionError


def _kept(weights: Any, topic: str = UPDATE, **changes: Any) -> KeptEvent:
    data = {"job": "job", "job_uid": "u", "round": 1, "edge": EDGE, "num_samples": 3, "weights": weights, **changes}
    event = Event("id", f"{EDGE}/{WORKER}/life", topics.MODEL_UPDATE.type, data, "", topic, sequence=1)
    return KeptEvent(1, topic, encode(event))


def _candidate(weights: Any, memory: Any = None, **changes: Any) -> KeptEvent:
    topic = topics.CANDIDATE.at(job="job", edge=EDGE)
    data = {"job": "job", "job_uid": "u", "round": 1, "attempt": 1, "edge": EDGE, "model": "m", "weights": weights,
            "memory": memory, **changes}  # fmt: skip
    return KeptEvent(1, topic, encode(Event("id", f"{EDGE}/{WORKER}/life", topics.CANDIDATE.type, data, "", topic, 1)))


def _uploading(on_node: Any, tmp_path: Path, test: Callable[[Any, Staged, Uploads], Any]) -> None:
    async def main(node: Any) -> None:
        files = Staged(tmp_path)
        files.content[WORKER, DIGEST] = WEIGHTS
        failures = Failures(node.logged.append)
        held = HeldUploads(tmp_path / "held", node.world, node.logged.append)
        sender = UploadSender(node.cloud, EDGE, held.find, failures)
        intake = UploadIntake(node.coordinator, lambda edge: True, node.background, failures)
        uploads = Uploads(files, held, node.cloud, EDGE, node.world, failures)
        parts = [node.start(keep_running(part, node.world, node.logged.append))
                 for part in (uploads.run, sender.run, intake.run)]  # fmt: skip
        await node.settled()
        await test(node, files, uploads)
        assert len(parts) == 3
        assert node.logged == []

    on_node(main)


def _held(tmp_path: Path) -> dict[str, bytes]:
    directory = tmp_path / "held"
    return {path.name.split(".")[0]: path.read_bytes() for path in directory.iterdir()} if directory.exists() else {}


def _in_cloud(node: Any) -> dict[str, bytes]:
    return dict(node.cloud_broker.blobs.get(upload_bucket(EDGE), {}))


def test_an_updates_weights_are_held_until_they_are_settled(on_node: Any, tmp_path: Path) -> None:
    async def test(node: Any, files: Staged, uploads: Uploads) -> None:
        kept = _kept(LARGE)
        assert uploads.may_name_weights(kept)
        await uploads.upload(kept)
        assert (_in_cloud(node), files.content, _held(tmp_path)) == ({}, {}, {DIGEST: WEIGHTS})
        await uploads.upload(kept)  # a second try finds the weights here
        source = CloudUploads(node.coordinator).of(EDGE)
        ref = WeightsRef(digest=DIGEST, size=len(WEIGHTS))
        assert (await source.fetch(ref, tmp_path / "fetched")).read_bytes() == WEIGHTS
        for edge in ("edge-2", EDGE):
            assert _held(tmp_path) == {DIGEST: WEIGHTS}
            await node.coordinator.publish(topics.UPLOAD_SETTLED, UploadSettled(digests=["0" * 64, DIGEST]), edge=edge)
            await node.settled()
        assert _held(tmp_path) == {}
        with pytest.raises(NotHeld):
            await source.fetch(ref, tmp_path / "again")

    _uploading(on_node, tmp_path, test)


def test_weights_that_travel_inside_need_no_upload(on_node: Any, tmp_path: Path) -> None:
    async def test(node: Any, files: Staged, uploads: Uploads) -> None:
        await uploads.upload(_kept({**LARGE, "bucket": None, "inline": WEIGHTS}))
        assert _in_cloud(node) == {}

    _uploading(on_node, tmp_path, test)


def test_other_events_name_no_weights(on_node: Any, tmp_path: Path) -> None:
    async def test(node: Any, files: Staged, uploads: Uploads) -> None:
        kept = _kept(LARGE, topics.TELEMETRY.at(edge=EDGE, device="meter"))
        assert not uploads.may_name_weights(kept)
        await uploads.upload(kept)
        assert _in_cloud(node) == {}

    _uploading(on_node, tmp_path, test)


@pytest.mark.parametrize(
    "planted", [b"PK\x03\x04" + bytes(len(WEIGHTS) - 4), WEIGHTS[:-1] + b"\xff"], ids=["zip", "other"]
)
def test_a_staged_file_that_is_not_those_weights_is_not_stored(on_node: Any, tmp_path: Path, planted: bytes) -> None:
    async def test(node: Any, files: Staged, uploads: Uploads) -> None:
        digest = hashlib.sha256(planted).hexdigest() if planted.startswith(b"PK") else DIGEST
        files.content[WORKER, digest] = planted
        with pytest.raises(Refused, match=r"safetensors|SHA-256"):
            # the bytes of an update are compared by who counts it: it cannot hold up this node's events
            await uploads.upload((_kept if digest != DIGEST else _candidate)({**LARGE, "digest": digest}))
        assert (_in_cloud(node), _held(tmp_path)) == ({}, {})

    _uploading(on_node, tmp_path, test)


def test_what_the_cloud_has_to_have_waits_for_the_link(on_node: Any, tmp_path: Path) -> None:
    async def test(node: Any, files: Staged, uploads: Uploads) -> None:
        node.cloud.bus.lost()
        with pytest.raises(Unreachable):
            await uploads.upload(_candidate(LARGE))
        assert (_in_cloud(node), _held(tmp_path)) == ({}, {DIGEST: WEIGHTS})
        node.cloud.bus.connect()
        await node.settled()
        await uploads.upload(_candidate(LARGE))
        await node.settled()
        assert (_in_cloud(node), _held(tmp_path)) == ({DIGEST: WEIGHTS}, {})
        await uploads.upload(_candidate(LARGE))  # a second try finds the weights in the cloud

    _uploading(on_node, tmp_path, test)


@pytest.mark.parametrize(
    ("kept", "field"),
    [
        (_kept({**LARGE, "bucket": upload_bucket("edge-2")}), "weights.bucket"),
        (_kept({**LARGE, "bucket": None}), "weights.bucket"),
        (_kept({**LARGE, "digest": "0" * 64}), "weights.digest"),
        (_kept({**LARGE, "digest": "../../etc/passwd"}), "weights.digest"),
        (_kept(None), "weights"),
        (_kept("weights"), "weights"),
        (_kept(LARGE, num_samples="many"), "num_samples"),
    ],
)
def test_an_event_that_the_cloud_can_never_accept_is_refused(
    on_node: Any, tmp_path: Path, kept: KeptEvent, field: str
) -> None:
    async def test(node: Any, files: Staged, uploads: Uploads) -> None:
        with pytest.raises(Refused) as refused:
            await uploads.upload(kept)
        assert refused.value.topic == UPDATE
        assert refused.value.field.startswith(field)
        assert (_in_cloud(node), len(files.content)) == ({}, 1)

    _uploading(on_node, tmp_path, test)


@pytest.mark.parametrize(
    ("event", "left"),
    [
        (_kept(LARGE), {}),
        (_kept({**LARGE, "digest": "f" * 64}), None),
        (_kept({"digest": DIGEST}), None),
        (_kept("no reference"), None),
        (KeptEvent(1, UPDATE, b"\x00"), None),
        (KeptEvent(1, "event/telemetry/edge-1/camera", b"{}"), None),
    ],
)
def test_staged_weights_go_with_an_event_that_the_cloud_will_never_take(
    on_node: Any, tmp_path: Path, event: KeptEvent, left: dict[str, bytes] | None
) -> None:
    async def test(node: Any, files: Staged, uploads: Uploads) -> None:
        files.content[WORKER, "f" * 64] = b"of another event"
        before = dict(files.content)
        await uploads.drop(event)
        gone = before.keys() - files.content.keys()
        assert len(gone) <= 1
        assert (files.content.get((WORKER, DIGEST)) is None) == (left == {})

    _uploading(on_node, tmp_path, test)


def test_a_candidate_and_its_memory_are_uploaded_across_a_lost_link(on_node: Any, tmp_path: Path) -> None:
    async def test(node: Any, files: Staged, uploads: Uploads) -> None:
        kept = _candidate(LARGE, MEMORY)
        assert uploads.may_name_weights(kept)
        with pytest.raises(Refused, match=r"memory\.digest"):  # the weights have gone up, the memory is nowhere
            await uploads.upload(kept)
        files.content[WORKER, MEMORY["digest"]] = EXEMPLARS
        node.cloud.bus.lost()
        with pytest.raises(Unreachable):
            await uploads.upload(kept)
        node.cloud.bus.connect()
        await node.settled()
        await uploads.upload(kept)
        assert _in_cloud(node) == {DIGEST: WEIGHTS, MEMORY["digest"]: EXEMPLARS}
        assert files.content == {}

    _uploading(on_node, tmp_path, test)


@pytest.mark.parametrize(
    ("weights", "memory", "uploaded"),
    [
        (LARGE, {**MEMORY, "bucket": None, "inline": EXEMPLARS}, {DIGEST: WEIGHTS}),
        ({**LARGE, "bucket": None, "inline": WEIGHTS}, MEMORY, {MEMORY["digest"]: EXEMPLARS}),
        ({**LARGE, "bucket": None, "inline": WEIGHTS}, None, {}),
        ({**LARGE, "bucket": None}, None, {}),
    ],
    ids=["memory inside", "weights inside", "no memory", "stays on the node"],
)
def test_only_what_a_candidate_leaves_outside_is_uploaded(
    on_node: Any, tmp_path: Path, weights: Any, memory: Any, uploaded: dict[str, bytes]
) -> None:
    async def test(node: Any, files: Staged, uploads: Uploads) -> None:
        files.content[WORKER, MEMORY["digest"]] = EXEMPLARS
        before = dict(files.content)
        await uploads.upload(_candidate(weights, memory))
        assert _in_cloud(node) == uploaded
        assert before.keys() - files.content.keys() == {(WORKER, digest) for digest in uploaded}

    _uploading(on_node, tmp_path, test)


@pytest.mark.parametrize(
    ("kept", "field"),
    [
        (_candidate({**LARGE, "bucket": upload_bucket("edge-2")}), "weights.bucket"),
        (_candidate({**LARGE, "bucket": None}, {**MEMORY, "bucket": "models"}), "memory.bucket"),
        (_candidate({**LARGE, "bucket": None}, {**MEMORY, "digest": "../../etc/passwd"}), "memory.digest"),
        (_candidate({**LARGE, "bucket": None}, MEMORY), "memory.digest"),
        (_candidate({**LARGE, "digest": "0" * 64}), "weights.digest"),
        (_candidate(None, LARGE), "weights"),
        (_candidate(LARGE, attempt="first"), "attempt"),
    ],
)
def test_a_candidate_that_the_cloud_can_never_accept_is_refused(
    on_node: Any, tmp_path: Path, kept: KeptEvent, field: str
) -> None:
    async def test(node: Any, files: Staged, uploads: Uploads) -> None:
        with pytest.raises(Refused) as refused:
            await uploads.upload(kept)
        assert (refused.value.topic, refused.value.field.startswith(field)) == (kept.topic, True)
        assert (_in_cloud(node), len(files.content)) == ({}, 1)

    _uploading(on_node, tmp_path, test)


def test_weights_and_memory_go_with_a_candidate_that_the_cloud_will_never_take(on_node: Any, tmp_path: Path) -> None:
    async def test(node: Any, files: Staged, uploads: Uploads) -> None:
        files.content[WORKER, MEMORY["digest"]] = EXEMPLARS
        await uploads.drop(_candidate(LARGE, MEMORY))
        assert files.content == {}

    _uploading(on_node, tmp_path, test)


def test_a_file_of_a_pairs_training_is_uploaded_and_figures_alone_name_none(on_node: Any, tmp_path: Path) -> None:
    async def test(node: Any, files: Staged, uploads: Uploads) -> None:
        topic = topics.PAIR_RESULT.at(job="job", edge=EDGE)
        fields = {"job": "job", "job_uid": "u", "round": 2, "edge": EDGE}
        for step, made in (("training-cloud", {"weights": LARGE}), ("measuring", {"figures": {"measuredOn": 4}})):
            data = {**fields, "step": step, **made}
            event = Event("id", f"{EDGE}/{WORKER}/life", topics.PAIR_RESULT.type, data, "", topic, 1)
            kept = KeptEvent(1, topic, encode(event))
            assert uploads.may_name_weights(kept)
            await uploads.upload(kept)
            assert set(_in_cloud(node)) == {DIGEST} and not files.content

    _uploading(on_node, tmp_path, test)
