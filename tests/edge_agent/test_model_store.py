"""The node's models: fetched whole, kept while a task or a closed round needs them, then deleted."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.blob_store import BlobHolder
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import dumps
from heliograph.edge_agent.blob_cache import RETRY, RETRY_DISK
from heliograph.edge_agent.model_store import ModelStore

CONTENT = {dumps({"w": np.full(100, number)}) for number in range(4)}
MODELS = {hashlib.sha256(content).hexdigest(): content for content in sorted(CONTENT)}
ONE, *OTHERS = MODELS


def _ref(digest: str, bucket: str | None = None) -> WeightsRef:
    return WeightsRef(digest=digest, size=len(MODELS.get(digest, b"")), bucket=bucket)


class Stored:
    """A model store on a node, and its log lines."""

    def __init__(self, node: Any, directory: Path) -> None:
        self.node = node
        self.changes = 0
        self.logged: list[str] = []
        self.directory = directory
        self.store = ModelStore(directory, node.blobs, node.world, self._changed, self.logged.append)

    def lay(self, digest: str, content: bytes | None = None, bucket: str = "models") -> None:
        """Store a blob in the cloud."""
        found = MODELS[digest] if content is None else content
        self.node.cloud_broker.blobs.setdefault(bucket, {})[digest] = found

    def files(self) -> set[str]:
        return {path.name for path in self.directory.iterdir()}

    def _changed(self) -> None:
        self.changes += 1


def _storing(on_node: Any, directory: Path, test: Callable[[Stored], Any]) -> None:
    async def main(node: Any) -> None:
        stored = Stored(node, directory)
        try:
            await test(stored)
        finally:
            await stored.store.close()

    on_node(main)


def test_a_model_is_fetched_once_and_its_arrival_reported(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        stored.lay(ONE)
        assert ONE not in stored.store
        stored.store.fetch(_ref(ONE))
        stored.store.fetch(_ref(ONE))
        await stored.node.settled()
        assert ONE in stored.store
        assert stored.store.path(_ref(ONE)).read_bytes() == MODELS[ONE]
        stored.store.fetch(_ref(ONE))
        await stored.node.settled()
        assert (stored.changes, stored.logged, stored.store.failures) == (1, [], {})

    _storing(on_node, tmp_path, test)


def test_it_comes_from_the_bucket_that_its_reference_names(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        stored.lay(ONE, bucket="shards")
        stored.store.fetch(_ref(ONE, "shards"))
        await stored.node.settled()
        assert ONE in stored.store

    _storing(on_node, tmp_path, test)


@pytest.mark.parametrize("name", ["../outside", "", "model", 3, None])
def test_an_invalid_digest_names_no_model(on_node: Any, tmp_path: Path, name: object) -> None:
    async def test(stored: Stored) -> None:
        (tmp_path / "models" / "model").touch()
        assert name not in stored.store

    (tmp_path / "outside").touch()
    _storing(on_node, tmp_path / "models", test)


def test_a_failed_fetch_is_logged_once_shown_and_tried_again(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        stored.store.fetch(_ref(ONE))
        await asyncio.sleep(10 * RETRY)
        assert stored.logged == [f"model {ONE[:12]}: blob {ONE[:12]} is not in bucket models yet; trying again"]
        assert (stored.store.failures, stored.changes) == ({ONE: stored.logged[0]}, 1)
        stored.lay(ONE)
        await asyncio.sleep(RETRY)
        assert (ONE in stored.store, stored.store.failures, stored.changes) == (True, {}, 2)

    _storing(on_node, tmp_path, test)


def test_weights_of_another_digest_never_become_the_model(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        stored.lay(ONE, MODELS[ONE][:-1] + b"?")
        stored.store.fetch(_ref(ONE))
        await asyncio.sleep(10 * RETRY)
        assert ONE not in stored.store
        assert "damaged" in stored.store.failures[ONE]
        stored.lay(ONE)
        await asyncio.sleep(RETRY)
        assert stored.store.path(_ref(ONE)).read_bytes() == MODELS[ONE]

    _storing(on_node, tmp_path, test)


def test_a_blob_that_is_no_weights_file_never_lies_on_the_nodes_disk(on_node: Any, tmp_path: Path) -> None:
    content = _zip()
    ref = WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=len(content))

    async def test(stored: Stored) -> None:
        stored.lay(ref.digest, content)
        stored.store.keep_only({ref.digest})
        stored.store.fetch(ref)
        await asyncio.sleep(10 * RETRY)
        stored.store.fetch(ref)  # at the next decision the task still names it
        await stored.node.settled()
        assert stored.files() == set()
        (line,) = stored.logged
        assert "expected a safetensors header" in line
        assert (stored.store.failures, stored.changes) == ({ref.digest: line}, 1)
        stored.store.keep_only(set())
        assert stored.store.failures == {}

    _storing(on_node, tmp_path, test)


def test_a_reference_with_a_wrong_size_does_not_stand_in_the_way_of_the_right_one(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        stored.lay(ONE)
        stored.store.fetch(_ref(ONE).model_copy(update={"size": 7}))
        await stored.node.settled()
        assert "expected a blob of 7 bytes" in stored.store.failures[ONE]
        stored.store.fetch(_ref(ONE))
        await stored.node.settled()
        assert (ONE in stored.store, stored.store.failures) == (True, {})

    _storing(on_node, tmp_path, test)


def test_a_size_beyond_the_disk_is_refused_before_anything_is_fetched(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        stored.lay(ONE)
        stored.store.fetch(_ref(ONE).model_copy(update={"size": 1 << 40}))
        await asyncio.sleep(1)
        assert f"declare {1 << 40} bytes" in stored.store.failures[ONE]
        assert stored.files() == set()

    _storing(on_node, tmp_path, test)


def _zip() -> bytes:
    """A zip file with a module, large enough to travel as a blob."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("planted.py", "print('ran')" + "#" * 300_000)
    return file.getvalue()


def test_nothing_is_tried_while_the_link_is_down(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        stored.lay(ONE)
        stored.node.cloud.bus.lost()
        stored.store.fetch(_ref(ONE))
        await asyncio.sleep(1000)
        assert (stored.logged, ONE in stored.store) == ([], False)
        stored.node.cloud.bus.connect()
        await stored.node.settled()
        assert ONE in stored.store

    _storing(on_node, tmp_path, test)


def test_a_full_disk_is_tried_less_often(
    on_node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[float] = []

    async def test(stored: Stored) -> None:
        async def fetch_from(holder: BlobHolder, ref: WeightsRef, target: Path, check: object) -> Path:
            attempts.append(stored.node.loop.time())
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(stored.node.cloud.bus, "fetch_from", fetch_from)
        stored.store.fetch(_ref(ONE))
        await asyncio.sleep(2.5 * RETRY_DISK)
        assert attempts == [0.0, RETRY_DISK, 2 * RETRY_DISK]
        assert "No space left" in stored.store.failures[ONE]

    _storing(on_node, tmp_path, test)


def test_a_model_that_is_no_longer_named_is_deleted_with_its_partial_files(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        stored.lay(ONE)
        stored.store.fetch(_ref(ONE))
        stored.store.fetch(_ref(OTHERS[0]))  # not in the cloud yet
        stored.store.keep_only({ONE, OTHERS[0]})
        await stored.node.settled()
        (tmp_path / f"{OTHERS[0]}.part").touch()
        (tmp_path / f"{OTHERS[0]}.place").touch()
        stored.store.keep_only({ONE})
        assert (stored.files(), stored.store.failures) == ({ONE}, {})
        stored.lay(OTHERS[0])
        await asyncio.sleep(100)
        assert stored.files() == {ONE}

    _storing(on_node, tmp_path, test)


def test_models_from_an_earlier_start_go_and_the_aggregation_workers_files_stay(
    on_node: Any, tmp_path: Path
) -> None:
    async def test(stored: Stored) -> None:
        (tmp_path / OTHERS[2]).write_bytes(b"an aggregation worker's result")
        stored.store.keep_only({ONE})
        assert stored.files() == {ONE, OTHERS[2]}
        stored.store.keep_only(set())
        assert stored.files() == {OTHERS[2]}

    for name in (ONE, f"{OTHERS[0]}.part", OTHERS[1]):
        (tmp_path / name).write_bytes(b"of an earlier agent")
    _storing(on_node, tmp_path, test)


def test_a_model_that_is_named_again_is_fetched_again(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        stored.lay(ONE)
        for _ in range(3):
            stored.store.keep_only({ONE})
            stored.store.fetch(_ref(ONE))
            await stored.node.settled()
            assert ONE in stored.store
            stored.store.keep_only(set())
            assert ONE not in stored.store

    _storing(on_node, tmp_path, test)


@given(wanted=st.lists(st.sets(st.sampled_from(sorted(MODELS))), max_size=8), laid=st.sets(st.integers(0, 7)))
@settings(max_examples=40, deadline=None)
def test_in_the_end_exactly_the_last_named_models_are_there(
    on_node: Any, tmp_path_factory: pytest.TempPathFactory, wanted: list[set[str]], laid: set[int]
) -> None:
    async def test(stored: Stored) -> None:
        for step, named in enumerate(wanted):
            if step in laid:
                for digest in named:
                    stored.lay(digest)
            stored.store.keep_only(named)
            for digest in sorted(named):
                stored.store.fetch(_ref(digest))
            await asyncio.sleep(RETRY / 3)
        for digest in MODELS:
            stored.lay(digest)
        await asyncio.sleep(2 * RETRY)
        assert stored.files() == (wanted[-1] if wanted else set())

    _storing(on_node, tmp_path_factory.mktemp("models"), test)




def test_a_file_of_an_earlier_start_is_proven_before_it_is_used_also_without_a_link(
    on_node: Any, tmp_path: Path
) -> None:
    async def test(stored: Stored) -> None:
        assert ONE not in stored.store
        stored.store.fetch(_ref(ONE))  # the cloud has no such blob: only the file can serve
        await stored.node.settled()
        assert ONE in stored.store
        assert (stored.changes, stored.logged) == (1, [])

    (tmp_path / ONE).write_bytes(MODELS[ONE])
    _storing(on_node, tmp_path, test)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip file", MODELS[OTHERS[0]], MODELS[ONE][:-1] + b"\xff"])
def test_a_file_that_is_not_what_its_name_says_is_fetched_again(on_node: Any, tmp_path: Path, content: bytes) -> None:
    async def test(stored: Stored) -> None:
        stored.lay(ONE)
        stored.store.fetch(_ref(ONE))
        await stored.node.settled()
        assert ONE in stored.store
        assert (tmp_path / ONE).read_bytes() == MODELS[ONE]
        assert [line for line in stored.logged if "was not what its name says" in line] == stored.logged != []

    (tmp_path / ONE).write_bytes(content)
    _storing(on_node, tmp_path, test)
