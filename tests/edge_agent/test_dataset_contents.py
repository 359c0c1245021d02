"""Uploaded samples on a node: fetched, proven, unpacked, exchanged, and deleted once nobody uses them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.resources import DatasetSpec, WeightsRef
from heliograph.bus.contract.resources.dataset import DatasetContent
from heliograph.dataset_files import pack
from heliograph.edge_agent.dataset_contents import unpack
from heliograph.edge_agent.inventory import LOOK
from tests.node_inventory import inventory_of

ROWS = b"x,y\n1,2\n3,4\n"


class Contents:
    def __init__(self, node: Any, tmp: Path) -> None:
        self.node = node
        self.tmp = tmp
        self.state = tmp / "state"
        self.inventory = inventory_of(node, self.state, {}, ())

    async def uploaded(self, body: bytes, file: str = "x.csv", *, directory: bool = False) -> DatasetContent:
        digest = hashlib.sha256(body).hexdigest()
        path = self.tmp / digest
        path.write_bytes(body)
        await (await self.node.cloud.bus.blobs("datasets")).put(path, WeightsRef(digest=digest, size=len(body)))
        return DatasetContent(file=file, digest=digest, size=len(body), bucket="datasets", directory=directory)

    async def follow(self, content: DatasetContent | None) -> None:
        self.inventory.follow({"d": DatasetSpec(content=content)} if content is not None else {})
        for _ in range(3):
            await self.node.settled()
            await self.node.world.sleep(0.01)

    def lying(self) -> list[str]:
        return sorted(each.name for each in (self.state / "datasets").rglob("*.csv"))


def _with(on_node: Any, tmp: Path, test: Callable[[Contents], Any]) -> None:
    async def main(node: Any) -> None:
        await test(Contents(node, tmp))

    on_node(main)


def tar(*members: tuple[str, bytes], **fields: Any) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, body in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            for field, value in fields.items():
                setattr(entry, field, value)
            archive.addfile(entry, io.BytesIO(body))
    return file.getvalue()


def test_uploaded_samples_are_fetched_and_exchanged_without_a_gap(on_node: Any, tmp_path: Path) -> None:
    async def test(here: Contents) -> None:
        await here.follow(await here.uploaded(ROWS, "one.csv"))
        first = here.inventory.datasets["d"]
        assert (first.error, first.samples, here.inventory.files["d"].read_bytes()) == ("", 2, ROWS)
        second = await here.uploaded(ROWS + b"5,6\n", "one.csv")
        here.inventory.follow({"d": DatasetSpec(content=second)})
        assert here.inventory.datasets["d"] == first  # usable until the next one is whole
        await here.follow(second)
        found = here.inventory.datasets["d"]
        assert (found.parent, found.samples, found.new_samples) == (first.version, 3, 1)
        here.inventory.release({"d"})
        await here.node.settled()
        assert len(here.lying()) == 2  # a worker may read the version before
        here.inventory.release(set())
        await here.node.settled()
        assert here.lying() == ["one.csv"]
        await here.follow(None)
        here.inventory.release(set())
        await here.node.settled()
        assert (here.inventory.datasets, here.lying()) == ({}, [])

    _with(on_node, tmp_path, test)


def test_a_directory_comes_as_a_tar(on_node: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / ".hidden").touch()
    for name in ("a", "b"):
        (source / f"{name}.csv").write_bytes(ROWS)
    (source / "sub").rename(tmp_path / "sub")
    for target in ("one.tar", "two.tar"):
        pack(source, tmp_path / target)
    body = (tmp_path / "one.tar").read_bytes()
    assert body == (tmp_path / "two.tar").read_bytes()  # the same samples are stored once

    async def test(here: Contents) -> None:
        await here.follow(await here.uploaded(body, "source", directory=True))
        assert here.inventory.datasets["d"].error == ""
        assert (here.inventory.datasets["d"].samples, here.inventory.files["d"].name) == (4, "source")

    _with(on_node, tmp_path, test)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (tar(("../../x.csv", ROWS)), "leads out"),
        (tar(("x.csv", b""), type=tarfile.SYMTYPE, linkname="/etc/passwd"), "symbolic link"),
        (tar(("x.csv", ROWS), ("x.csv", ROWS)), "x.csv twice"),
        (tar(("x", ROWS), ("x/y.csv", ROWS)), "x twice"),
        (tar(("x.csv", ROWS))[:700], "truncated"),
        (b"no tar at all", "no tar"),
    ],
)
def test_a_hostile_tar_is_refused_and_leaves_nothing(on_node: Any, tmp_path: Path, body: bytes, words: str) -> None:
    async def test(here: Contents) -> None:
        await here.follow(await here.uploaded(body, "data", directory=True))
        assert words in here.inventory.datasets["d"].error
        assert here.lying() == []
        assert not (tmp_path / "x.csv").exists()

    _with(on_node, tmp_path, test)


def test_samples_that_are_not_there_yet_are_told_and_tried_again(on_node: Any, tmp_path: Path) -> None:
    async def test(here: Contents) -> None:
        digest = hashlib.sha256(ROWS).hexdigest()
        content = DatasetContent(file="x.csv", digest=digest, size=len(ROWS), bucket="datasets")
        await here.follow(content)
        assert "not here yet" in here.inventory.datasets["d"].error
        assert len(here.node.logged) == 1
        await here.uploaded(ROWS)
        await here.node.world.sleep(3)
        await here.node.settled()
        assert here.inventory.datasets["d"].samples == 2

    _with(on_node, tmp_path, test)


def test_bytes_of_another_digest_never_become_samples(on_node: Any, tmp_path: Path) -> None:
    async def test(here: Contents) -> None:
        content = await here.uploaded(ROWS)
        (tmp_path / "other").write_bytes(ROWS.replace(b"1", b"9"))
        ref = WeightsRef(digest=content.digest, size=content.size)
        await (await here.node.cloud.bus.blobs("datasets")).put(tmp_path / "other", ref)
        await here.follow(content)
        assert "damaged" in here.inventory.datasets["d"].error
        assert here.lying() == []

    _with(on_node, tmp_path, test)


def test_a_tars_members_lie_below_the_target(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar(("./a//b.csv", ROWS), ("c/./d.csv", ROWS)))
    unpack(tmp_path / "x.tar", tmp_path / "out")
    assert sorted(str(each.relative_to(tmp_path / "out")) for each in (tmp_path / "out").rglob("*.csv")) == [
        "a/b.csv", "c/d.csv",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["..", ".", "a/b", "", "a\nb", "x" * 300])
def test_a_contents_name_is_no_path(name: str) -> None:
    with pytest.raises(ValueError, match="file"):
        DatasetContent(file=name, digest="0" * 64, size=1, bucket="datasets")


def test_samples_that_somebody_deletes_are_fetched_again(on_node: Any, tmp_path: Path) -> None:
    async def test(here: Contents) -> None:
        here.node.background.spawn(here.inventory.watch())
        await here.follow(await here.uploaded(ROWS))
        version = here.inventory.datasets["d"].version
        here.inventory.files["d"].unlink()
        await here.node.world.sleep(3 * LOOK)
        await here.node.settled()
        assert here.lying() == ["x.csv"]
        assert (here.inventory.datasets["d"].version, here.inventory.datasets["d"].error) == (version, "")

    _with(on_node, tmp_path, test)
