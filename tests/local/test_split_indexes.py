"""Indexes of files, COCO and webdatasets are split into parts of the same form, which an agent indexes."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from heliograph.core.errors import HeliographError, Refused
from heliograph.edge_agent.datasets import index
from heliograph.local.split import Split
from heliograph.local.split_file import split_file
from tests.small_images import small_png

EDGES = ["edge-1", "edge-2"]
PNG = small_png()


def _images(directory: Path, count: int = 12) -> list[str]:
    names = [f"images/set {number % 3}/{number}.png" for number in range(count)]
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(PNG)
    return names


def test_an_index_of_files(tmp_path: Path) -> None:
    names = _images(tmp_path / "data")
    lines = [f"{name} {'cat' if number % 2 else 'dog'}" for number, name in enumerate(names)]
    source = tmp_path / "data" / "train.txt"
    source.write_text("# pets\n" + "\n".join(lines) + "\n")
    parts = split_file(source, tmp_path / "parts", EDGES, Split.parse("by-label:1"), seed=0, test=0.25)
    assert parts.test is not None
    written = {edge: file.read_text().splitlines() for edge, file in [*parts.files.items(), ("test", parts.test)]}
    assert sorted(line for found in written.values() for line in found) == sorted(lines)
    assert {len({line.split()[-1] for line in written[edge]}) for edge in EDGES} == {1}
    for edge, file in parts.files.items():
        found = index("x", file)
        assert (found.error, found.format, found.samples) == ("", "txt", parts.samples[edge])
    assert parts.found == ("train.txt: an index of 12 files of 2 classes",)


@pytest.mark.parametrize("as_directory", [False, True])
def test_cocos_json(tmp_path: Path, as_directory: bool) -> None:
    directory = tmp_path / "data"
    names = _images(directory)
    document = {
        "info": {"year": 2026},
        "licenses": [{"id": 1}],
        "note": None,
        "annotations": [{"id": n, "image_id": n % 12, "category_id": n % 2, "bbox": [0, 0, 1, 1]} for n in range(30)],
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dög"}],
    }
    source = directory / "instances.json"
    source.write_text(json.dumps(document))
    parts = split_file(directory if as_directory else source, tmp_path / "parts", EDGES, Split(), seed=0)
    written = [json.loads(file.read_text()) for file in parts.files.values()]
    for part, edge in zip(written, EDGES, strict=True):
        for key in ("info", "licenses", "categories", "note"):
            assert part[key] == document[key]
        ids = {each["id"] for each in part["images"]}
        assert len(ids) == parts.samples[edge]
        assert {each["image_id"] for each in part["annotations"]} <= ids
        found = index("x", parts.files[edge])
        assert (found.error, found.format, found.samples) == ("", "coco", parts.samples[edge])
    for key in ("images", "annotations"):
        every = sorted((each for part in written for each in part[key]), key=lambda each: each["id"])
        assert every == document[key]
    with pytest.raises(Refused, match="called y, label"):
        split_file(source, tmp_path / "more", EDGES, Split.parse("by-label:1"), seed=0)


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_a_webdataset(tmp_path: Path, ending: str) -> None:
    source = tmp_path / f"data{ending}"
    with tarfile.open(source, "w:gz" if ending.endswith("gz") else "w") as tar:
        for number in range(12):
            for name, content in ((f"d/{number:03}.png", PNG), (f"d/{number:03}.cls", b"%d\n" % (number % 2))):
                head = tarfile.TarInfo(name)
                head.size = len(content)
                tar.addfile(head, BytesIO(content))
    parts = split_file(source, tmp_path / "parts", EDGES, Split.parse("by-label:1"), seed=0)
    seen: list[str] = []
    for edge, file in parts.files.items():
        assert file.name == f"{edge}{ending}"
        found = index("x", file)
        assert (found.error, found.format, found.samples) == ("", "webdataset", parts.samples[edge])
        with tarfile.open(file) as tar:
            contents = {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]
        assert {content for name, content in contents.items() if name.endswith("png")} == {PNG}
        assert len({content for name, content in contents.items() if name.endswith("cls")}) == 1
        seen += contents
    assert len(seen) == len(set(seen)) == 24


def test_a_name_that_a_part_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "edge-1.txt").write_bytes(PNG)
    (tmp_path / "b").write_bytes(PNG)
    source = tmp_path / "all.txt"
    source.write_text("edge-1.txt x\nb y\n")
    with pytest.raises(HeliographError, match="has the name of an edge's part"):
        split_file(source, tmp_path / "parts", ["edge-1"], Split(), seed=0)
