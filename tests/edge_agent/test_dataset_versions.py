"""Versions of data sets: the manifest, what has grown, what is known of unchanged files, and interrupted passes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.resources import DatasetIndex
from heliograph.core.world import World
from heliograph.edge_agent.datasets import index, reading
from heliograph.edge_agent.datasets.known_files import KnownFiles
from heliograph.edge_agent.datasets.manifest import FileEntry, growth, version_of
from heliograph.edge_agent.datasets.reading import Advance
from heliograph.edge_agent.datasets.unusable import Interrupted, Unusable
from tests.small_images import small_png


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def settle(path: Path) -> None:
    """Let a file, or all below a directory, have changed an hour ago."""
    for each in [path, *path.rglob("*")]:
        if each.is_file():
            old = each.stat().st_mtime_ns - 3600 * 10**9
            os.utime(each, ns=(old, old))


class Node:
    """What a node's agent knows of its files; ``again`` is its next start."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.said: list[str] = []
        self.known = KnownFiles(state, World(), self.said.append)

    def again(self) -> None:
        self.known.close()
        self.known = KnownFiles(self.state, World(), self.said.append)

    def index(self, path: Path, **more: Any) -> DatasetIndex:
        found = index("d", path, known=self.known, **more)
        assert found.error == ""
        return found


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "datasets.db")
    yield made
    made.known.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that are read from now on."""
    names: list[str] = []
    real = reading.open_source

    def noting(path: Path, *args: Any) -> Any:
        names.append(path.name)
        return real(path, *args)

    monkeypatch.setattr(reading, "open_source", noting)
    return names


# the manifest


def test_a_version_is_the_digest_of_the_sorted_manifest(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / "shards").mkdir(exist_ok=True)
        (tmp_path / "shards" / f"{name}.csv").write_text(f"x,y\n1,{name}\n")
    rows = [(f"{name}.csv", f"x,y\n1,{name}\n".encode()) for name in ("a", "b")]
    manifest = "".join(f"{name}, {len(body)}, {sha(body)}\n" for name, body in rows)
    assert index("d", tmp_path / "shards").version == sha(manifest.encode())
    single = index("d", tmp_path / "shards" / "a.csv")
    assert single.version == sha(manifest.splitlines(keepends=True)[0].encode())
    assert (single.files, single.parent, single.new_samples) == (1, "", 1)


@given(st.lists(st.text(st.characters(blacklist_characters="\n\r\0", blacklist_categories=("Cs",)), min_size=1),
                min_size=2, max_size=5, unique=True))  # fmt: skip
def test_no_order_and_no_name_gives_two_manifests_one_version(paths: list[str]) -> None:
    entries = [FileEntry(path, number, sha(bytes([number]))) for number, path in enumerate(paths)]
    assert version_of(entries) == version_of(entries[::-1])
    moved = [FileEntry(paths[-1] + "x", each.size, each.sha256) if each is entries[-1] else each for each in entries]
    assert version_of(entries) != version_of(moved)


def test_a_name_that_could_be_two_lines_is_refused() -> None:
    with pytest.raises(Unusable, match="line break"):
        version_of([FileEntry("a, 1, b\nc", 1, "d")])


# growth


def entry(path: str, body: str, samples: int, prefix: str = "") -> FileEntry:
    return FileEntry(path, len(body), sha(body.encode()), samples, sha(prefix.encode()) if prefix else "")


BEFORE = {"a": entry("a", "one", 3), "b": entry("b", "two", 4)}


@pytest.mark.parametrize(
    ("after", "samples"),
    [
        ([entry("a", "one", 3), entry("b", "two", 4), entry("c", "new", 5)], 5),
        ([entry("a", "one more", 7, "one"), entry("b", "two", 4)], 4),
        ([entry("a", "one more", 7, "other"), entry("b", "two", 4)], None),
        ([entry("a", "one", 3)], None),
        ([entry("a", "ONE", 3), entry("b", "two", 4)], None),
        ([entry("a", "one more", 2, "one"), entry("b", "two", 4)], None),
    ],
    ids=["a new file", "an appended file", "another file of that name", "a missing file", "a changed one", "fewer"],
)
def test_growth_is_told_only_where_nothing_was_lost(after: list[FileEntry], samples: int | None) -> None:
    found = growth(BEFORE.get, len(BEFORE), after)
    assert (found.samples if found is not None else None) == samples


def test_an_appended_file_has_its_prefix_and_its_new_rows(tmp_path: Path, node: Node) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    first = node.index(path)
    with path.open("a") as file:
        file.write("5,6\n7,8\n9,0\n")
    node.again()  # versions outlive the agent
    second = node.index(path)
    assert (second.parent, second.samples, second.new_samples) == (first.version, 5, 3)
    (grown,) = second.grown
    assert (grown.path, grown.prefix, grown.first, grown.end) == ("x.csv", first.digest, 2, 5)
    assert node.index(path) == second  # nothing new: the same version, not one with itself as parent
    path.write_text("a,b\n1,2\n")
    third = node.index(path)
    assert (third.parent, third.new_samples, third.grown) == (second.version, 1, [])


def test_images_that_come_are_the_new_samples(tmp_path: Path, node: Node) -> None:
    for number in range(3):
        (tmp_path / "images" / "cat").mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / "cat" / f"{number}.png").write_bytes(small_png(str(number)))
    first = node.index(tmp_path / "images")
    (tmp_path / "images" / "cat" / "00.png").write_bytes(small_png("new"))
    second = node.index(tmp_path / "images")
    assert (second.parent, second.samples, second.new_samples) == (first.version, 4, 1)
    assert [each.path for each in second.grown] == ["cat/00.png"]


def test_images_that_coco_lists_anew_are_the_new_samples(tmp_path: Path, node: Node) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.png").write_bytes(small_png(name))
    path = tmp_path / "x.json"

    def listed(*names: str, category: int = 1) -> None:
        images = [{"id": name, "file_name": f"{name}.png"} for name in names]
        annotations = [{"image_id": name, "category_id": category} for name in names]
        categories = [{"id": number, "name": f"class {number}"} for number in (1, 2)]
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))

    listed("one", "two")
    first = node.index(path)
    listed("three", "one", "two")  # in any order: the json is written anew as a whole
    second = node.index(path)
    assert (second.parent, second.samples, second.new_samples, second.grown) == (first.version, 3, 1, [])
    listed("three", "one", "two", category=2)
    third = node.index(path)
    assert third.version != second.version and third.new_samples == 0  # other annotations are no other images
    listed("three", "two")
    assert node.index(path).new_samples == 2  # an image less: what is left is all new


# what is known of unchanged files


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, node: Node, opened: list[str]) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    settle(path)
    first = node.index(path)
    node.again()
    del opened[:]
    assert node.index(path) == first
    assert opened == []
    assert node.index(path, header="no").samples == 2  # read as something else: another content
    same_size = path.read_text().replace("2", "9")
    path.write_text(same_size)
    assert node.index(path).version != first.version


def test_a_file_that_has_just_changed_is_read_again(tmp_path: Path, node: Node, opened: list[str]) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    node.index(path)
    node.index(path)
    assert opened == ["x.csv", "x.csv"]


def test_an_interrupted_pass_goes_on_where_it_was(tmp_path: Path, node: Node, opened: list[str]) -> None:
    images = tmp_path / "images"
    (images / "cat").mkdir(parents=True)
    for number in range(10):
        (images / "cat" / f"{number}.png").write_bytes(small_png(str(number)))
    settle(images)
    with pytest.raises(Interrupted):
        index("d", images, known=node.known, interrupted=lambda: len(opened) >= 6)
    node.again()
    assert node.index(images).samples == 10
    assert sorted(opened) == [f"{number}.png" for number in range(10)]


def test_a_large_file_is_interrupted_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "1,2\n" * 2_500_000)
    seen: list[Advance] = []
    with pytest.raises(Interrupted):
        index("d", path, progress=seen.append, interrupted=lambda: bool(seen))
    assert len(seen) == 1
    assert 0 < seen[0].read < path.stat().st_size


def test_progress_of_many_files_is_told_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FILES_STEP", 2)
    (tmp_path / "images" / "cat").mkdir(parents=True)
    for number in range(5):
        (tmp_path / "images" / "cat" / f"{number}.png").write_bytes(small_png(str(number)))
    seen: list[Advance] = []
    assert index("d", tmp_path / "images", progress=seen.append).samples == 5
    assert [(each.files, each.of) for each in seen] == [(2, 5), (4, 5)]


def test_a_damaged_memory_of_files_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "datasets.db").write_bytes(b"no database" * 100)
    node = Node(tmp_path / "datasets.db")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    assert node.index(tmp_path / "x.csv").samples == 1
    assert "made anew" in node.said[0]
    node.known.close()


def test_a_version_whose_file_is_gone_is_named(tmp_path: Path, node: Node) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    version = node.index(path).version
    path.unlink()
    error = index("d", path, known=node.known).error
    assert f"version {version[:12]}" in error
    assert "put it back" in error
    path.write_text("a,b\n1,2\n")
    assert node.index(path).version == version
