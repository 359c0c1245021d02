"""The node's packages: fetched once, proven and unpacked before they run, and kept for the next job."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.algorithm_files import Package
from heliograph.bus.contract.payloads import PackageSpec
from heliograph.edge_agent import package_store
from heliograph.edge_agent.package_store import PackageStore
from tests.packed import packed, spec_of
from tests.virtual_node import CLOUD

FILES = {"train.py": b"import parts.one\n", "parts/one.py": b"ONE = 1\n"}
PACKAGE = packed(FILES)


class Stored:
    """A package store on a node, and its log lines."""

    def __init__(self, node: Any, directory: Path) -> None:
        self.node = node
        self.directory = directory
        self.logged: list[str] = []
        self.changes = 0
        self.store = self.again()

    def again(self) -> PackageStore:
        """The store after another start of the agent."""
        self.store = PackageStore(
            self.directory, self.node.blobs, self.node.world, self._changed, self.logged.append
        )
        return self.store

    def lay(self, package: Package, content: bytes | None = None) -> None:
        """Store a package in the cloud, or other bytes in its name."""
        blobs = self.node.cloud_broker.blobs.setdefault("packages", {})
        blobs[package.digest] = package.content if content is None else content

    async def use(self, *packages: Package, seconds: float = 0.0) -> list[bool]:
        """Name packages as a reconcile does; return which can run then."""
        specs = [spec_of(each) for each in packages]
        self.store.keep_only({each.digest for each in packages})
        for spec in specs:
            self.store.fetch(spec.ref)
        await (self.node.world.sleep(seconds) if seconds else self.node.settled())
        return [self.store.code(spec) is not None for spec in specs]

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


def test_a_package_is_fetched_once_and_unpacked_into_a_folder_of_its_own(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        stored.lay(PACKAGE)
        assert await stored.use(PACKAGE) == [True]
        code = stored.store.code(spec_of(PACKAGE))
        assert code is not None
        assert code.boot_file == tmp_path / PACKAGE.digest / "train.py"
        assert code.directory == code.working_directory == tmp_path / PACKAGE.digest
        assert {name: (tmp_path / PACKAGE.digest / name).read_bytes() for name in FILES} == FILES
        assert await stored.use(PACKAGE) == [True]
        assert (stored.changes, stored.logged, stored.store.unpacked) == (1, [], [PACKAGE.digest])
        assert stored.files() == {PACKAGE.digest, f"{PACKAGE.digest}.zip"}

    _storing(on_node, tmp_path, test)


def test_a_started_agent_unpacks_it_anew_without_a_link(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        stored.lay(PACKAGE)
        await stored.use(PACKAGE)
        script = tmp_path / PACKAGE.digest / "train.py"
        script.unlink()
        script.write_text("import socket  # another thing")
        (tmp_path / PACKAGE.digest / "sitecustomize.py").write_text("also")
        stored.node.links[CLOUD].cut()
        stored.again()
        assert stored.store.code(spec_of(PACKAGE)) is None  # not before it is proven
        assert await stored.use(PACKAGE) == [True]
        assert script.read_bytes() == FILES["train.py"]
        assert not (tmp_path / PACKAGE.digest / "sitecustomize.py").exists()

    _storing(on_node, tmp_path, test)


def test_a_killed_unpacking_is_made_up_for(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        (tmp_path / f"{PACKAGE.digest}.zip").write_bytes(PACKAGE.content)
        (tmp_path / f"{PACKAGE.digest}.unpacking").mkdir()
        (tmp_path / f"{PACKAGE.digest}.unpacking" / "train.py").write_text("half")
        stored.node.links[CLOUD].cut()
        stored.again()
        assert await stored.use(PACKAGE) == [True]
        assert stored.files() == {PACKAGE.digest, f"{PACKAGE.digest}.zip"}

    _storing(on_node, tmp_path, test)


def test_a_damaged_package_on_this_disk_is_fetched_again(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        stored.lay(PACKAGE)
        await stored.use(PACKAGE)
        (tmp_path / f"{PACKAGE.digest}.zip").write_bytes(PACKAGE.content[:-1] + b"\1")
        stored.again()
        assert await stored.use(PACKAGE) == [True]
        assert "was not what its name says" in stored.logged[0]

    _storing(on_node, tmp_path, test)


def _of(content: bytes) -> PackageSpec:
    digest = hashlib.sha256(content).hexdigest()
    return PackageSpec(algorithm="digits", digest=digest, size=max(1, len(content)))


@pytest.mark.parametrize("content", [b"no zip", PACKAGE.content[:-1], PACKAGE.content + b" ", b"PK\5\6" + bytes(18)])
def test_what_is_no_package_never_lies_unpacked_on_the_node(on_node: Any, tmp_path: Path, content: bytes) -> None:
    async def test(stored: Stored) -> None:
        spec = _of(content)
        stored.node.cloud_broker.blobs.setdefault("packages", {})[spec.digest] = content
        stored.store.keep_only({spec.digest})
        stored.store.fetch(spec.ref)
        await stored.node.settled()
        stored.store.fetch(spec.ref)
        await stored.node.settled()
        assert stored.store.is_refused(spec.ref)
        assert stored.store.code(spec) is None
        assert len(stored.logged) == 1
        assert stored.store.failures[spec.digest] == stored.logged[0]
        assert stored.files() == set()

    _storing(on_node, tmp_path, test)


def test_other_bytes_in_the_name_of_a_package_never_become_it(on_node: Any, tmp_path: Path) -> None:
    async def test(stored: Stored) -> None:
        other = packed({"train.py": b"import socket"}).content
        stored.lay(PACKAGE, (other + bytes(len(PACKAGE.content)))[: len(PACKAGE.content)])
        assert await stored.use(PACKAGE, seconds=3) == [False]
        assert "damaged" in stored.logged[0]
        assert not stored.store.is_refused(spec_of(PACKAGE).ref)  # another attempt may bring the right ones
        stored.lay(PACKAGE)
        assert await stored.use(PACKAGE, seconds=3) == [True]

    _storing(on_node, tmp_path, test)


def test_a_package_stays_for_the_next_job_and_the_oldest_goes_first(
    on_node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = [packed({"train.py": b"#" * 1000 + bytes([number + 48])}) for number in range(3)]
    monkeypatch.setattr(package_store, "KEPT_BYTES", 2 * len(three[0].content))

    async def test(stored: Stored) -> None:
        for number, each in enumerate(three):
            stored.lay(each)
            assert await stored.use(each) == [True]
            os.utime(tmp_path / f"{each.digest}.zip", (number, number))
        await stored.use(three[0])
        await stored.use()
        assert stored.store.unpacked == sorted([three[0].digest, three[2].digest])
        stored.again()
        await stored.use()
        assert {f"{three[0].digest}.zip", f"{three[2].digest}.zip"} <= stored.files()

    _storing(on_node, tmp_path, test)


def test_a_package_beyond_the_disk_is_not_fetched(
    on_node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = package_store.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(package_store.shutil, "disk_usage", lambda place: usage._replace(free=len(PACKAGE.content)))

    async def test(stored: Stored) -> None:
        stored.lay(PACKAGE)
        assert await stored.use(PACKAGE, seconds=1) == [False]
        assert "are free" in stored.logged[0]
        assert "trying again" in stored.logged[0]

    _storing(on_node, tmp_path, test)
