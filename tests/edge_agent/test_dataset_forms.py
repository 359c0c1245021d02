"""Forms of data sets beside csv and arrays: indexes of files, COCO, webdatasets, images; and what is refused."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract.resources import DatasetIndex
from heliograph.edge_agent.datasets import coco_file, index, label_counts
from heliograph.edge_agent.datasets.distinct import Distinct, first_repeated
from tests.small_images import WHOLE, small_png


def good(path: Path, **more: Any) -> DatasetIndex:
    found = index("d", path, **more)
    assert found.error == ""
    assert found.version
    return found


def error(path: Path, **more: Any) -> str:
    found = index("d", path, **more)
    assert (found.samples, found.version, found.digest) == (0, "", "")
    assert found.error.startswith(str(path))
    return found.error


def tar_of(path: Path, *members: tuple[str, bytes], **fields: Any) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w", format=fields.pop("format", None)) as archive:
        for name, body in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            for field, value in fields.items():
                setattr(entry, field, value)
            archive.addfile(entry, io.BytesIO(body))
    return path


# an index: a path and a label a line


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for name in ("one.png", "two.png", "my cat.png"):
        (tmp_path / "pictures" / name).write_bytes(small_png(name))
    return tmp_path


def test_a_txt_index_holds_its_files(pictures: Path) -> None:
    path = pictures / "train.txt"
    path.write_text("# path label\npictures/one.png 0\n./pictures/two.png\t1\n\npictures/my cat.png 1\n")
    found = good(path, counts_labels=True)
    assert (found.format, found.samples, found.files, found.labels) == ("txt", 3, 4, {"0": 1, "1": 2})
    before = found.version
    (pictures / "pictures" / "one.png").write_bytes(small_png("changed"))
    assert good(path).version != before
    assert good(path).labels == {}  # nobody allowed it


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pictures/one.png 0\npictures/one.png 1\n", "twice, in lines 1 and 2"),
        ("pictures/one.png 0\npictures//one.png 0\n", "twice"),
        ("pictures/one.png 0\n../secret.png 1\n", "no path below"),
        ("pictures/one.png 0\n/etc/passwd 1\n", "no path below"),
        ("pictures/one.png 0\npictures/two.png\n", "no label in line 2"),
        ("pictures/one.png 0\npictures/none.png 1\n", "pictures/none.png, which does not exist"),
        ("pictures/one.png 0\nlink.png 1\n", "leads away"),
    ],
)
def test_a_txt_index_names_the_line_that_is_wrong(pictures: Path, text: str, words: str) -> None:
    (pictures / "link.png").symlink_to("/etc/passwd")
    (pictures / "x.txt").write_text(text)
    assert words in error(pictures / "x.txt", roots=(pictures,), format="txt")


def test_a_txt_that_names_no_file_is_a_csv(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("1.5 2\n2.5 3\n")
    assert good(tmp_path / "x.txt").format == "csv"


# COCO


def coco(path: Path, names: list[str], **more: Any) -> Path:
    document = {
        "info": {"year": 2024, "note": "]}\\\""},
        "licenses": [{"id": 1}, 7],
        "annotations": [{"id": number, "image_id": number % len(names), "category_id": 3, "bbox": [0, 0, 1, 1]}
                        for number in range(4)],
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dög"}],
    }  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document | more, indent=1))
    return path


def test_coco_is_its_json_and_its_images(pictures: Path) -> None:
    names = ["one.png", "two.png"]
    for path in (coco(pictures / "x.json", [f"pictures/{name}" for name in names]),
                 coco(pictures / "annotations" / "instances_pictures.json", names)):  # fmt: skip
        found = good(path, counts_labels=True, roots=(pictures,))
        assert (found.format, found.samples, found.files, found.labels) == ("coco", 2, 3, {"cat": 4})
        assert found.columns["annotations"] == "objects of 2 categories"
    coco(pictures / "pictures" / "_annotations.coco.json", names)  # hidden by its underscore: a directory of images
    coco(pictures / "pictures" / "all.json", names)
    assert good(pictures / "pictures").format == "coco"


def test_coco_is_read_in_pieces(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = coco(pictures / "x.json", ["pictures/one.png", "pictures/two.png"])
    whole = good(path)
    for block in (1, 2, 7, 100):
        monkeypatch.setattr(coco_file, "BLOCK", block)
        assert good(path) == whole


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"images": [{"id": 1, "file_name": "one.png"}, {"id": 2, "file_name": "one.png"}]}, "(id 2) twice"),
        ({"images": [{"id": 1, "file_name": "one.png"}, {"id": 1, "file_name": "two.png"}]}, "two.png (id 1) twice"),
        ({"images": [{"id": 1, "file_name": "../one.png"}]}, "no path below"),
        ({"images": [{"id": [], "file_name": "one.png"}]}, "without id"),
        ({"images": [7]}, "expected mappings in images"),
        ({"images": []}, "lists no images"),
        ({"annotations": [{"image_id": 99, "category_id": 3}]}, "annotates image 99"),
        ({"annotations": [{"image_id": 0, "category_id": 99}]}, "category 99"),
        ({"annotations": [{"image_id": 0}]}, "without image_id and category_id"),
    ],
)
def test_coco_names_what_is_wrong(pictures: Path, more: dict[str, Any], words: str) -> None:
    assert words in error(coco(pictures / "pictures" / "x.json", ["one.png", "two.png"], **more))


def test_coco_that_is_cut_off_or_hostile_is_an_error(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = coco(pictures / "pictures" / "x.json", ["one.png"])
    whole = path.read_bytes()
    for length in range(1, len(whole) - 2, 23):
        path.write_bytes(whole[:length])
        assert error(path)
    monkeypatch.setattr(coco_file, "MAX_VALUE", 1000)
    for body in (b"[" * 100_000, b'{"a": ' + b"[" * 100_000, b'{"a": "' + b"x" * (3 << 20), b'{"a": ' + b"9" * 9000,
                 b"\xff\xfe{}", b"{}", b'{1: 2}', b'{"images": {"a": 1}}', b"\0"):  # fmt: skip
        path.write_bytes(body)
        assert error(path)


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_no_bytes_as_coco_or_tar_raise(tmp_path_factory: Any, body: bytes) -> None:
    for name in ("any.json", "any.tar"):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(body)
        assert index("d", path).error


# webdatasets

SAMPLES = [(f"a/{number}.{ending}", body) for number in range(3)
           for ending, body in (("jpg", b"image"), ("cls", b"%d\n" % (number % 2)), ("seg.png", b"mask"))]  # fmt: skip


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz"])
def test_a_webdatasets_samples_are_counted(tmp_path: Path, name: str, format: int) -> None:
    long = "d" * 90 + "/" + "e" * (60 if format == tarfile.USTAR_FORMAT else 250)
    path = tar_of(tmp_path / name.replace(".tar.gz", ".tgz"), *SAMPLES, (f"{long}.jpg", b"x" * 1000), format=format)
    path = path.rename(tmp_path / name)
    found = good(path, counts_labels=True)
    assert (found.format, found.samples, found.labels) == ("webdataset", 4, {"0": 2, "1": 1})
    assert found.columns == {"jpg": "image", "cls": "text", "seg.png": "image"}


def test_a_directory_of_tars_is_one_data_set(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    tar_of(tmp_path / "shards" / "0.tar", *SAMPLES)
    tar_of(tmp_path / "shards" / "1.tar", ("b/0.jpg", b"image"))
    assert (good(tmp_path / "shards").samples, good(tmp_path / "shards").format) == (4, "webdataset")


@pytest.mark.parametrize(
    ("members", "fields", "words"),
    [
        ([("../../etc/passwd", b"x")], {}, "leads out of the tar"),
        ([("a/../../b.jpg", b"x")], {}, "leads out"),
        ([("/etc/passwd", b"x")], {}, "leads out"),
        ([("a.jpg", b"")], {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a symbolic link"),
        ([("a.jpg", b"")], {"type": tarfile.LNKTYPE, "linkname": "b.jpg"}, "a hard link"),
        ([("a.jpg", b"")], {"type": tarfile.CHRTYPE}, "a device"),
        ([("a.jpg", b"")], {"type": tarfile.FIFOTYPE}, "a pipe"),
        ([("a.jpg", b"x"), ("a.jpg", b"y")], {}, "a.jpg twice"),
        ([("a.jpg", b"x"), ("b.jpg", b"x"), ("a.cls", b"0")], {}, "sample a twice, with others between"),
        ([], {}, "no samples|empty tar|without samples"),
        ([("readme", b"x")], {}, "without samples"),
    ],
)
def test_a_tar_names_the_member_that_is_wrong(
    tmp_path: Path, members: list[tuple[str, bytes]], fields: dict[str, Any], words: str
) -> None:
    text = error(tar_of(tmp_path / "x.tar", *members, **fields))
    assert any(each in text for each in words.split("|")), text


def test_a_tar_that_is_cut_off_or_damaged_is_an_error(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tar", *SAMPLES)
    whole = path.read_bytes()
    for length in (100, 512, 1000, 1024, 2048 + 700, 9 * 1024):
        path.write_bytes(whole[:length])
        assert "copy it again" in error(path)
    path.write_bytes(whole[:150] + b"\xff" + whole[151:])
    assert "damaged or no tar" in error(path)


def test_a_tar_with_a_large_header_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tar", ("a" * 5000 + ".jpg", b"x"), format=tarfile.GNU_FORMAT)
    assert "header of 5005 bytes" in error(path)


def test_names_that_come_twice_are_found_at_eight_bytes_each() -> None:
    names = [b"%d" % number for number in range(5000)]
    distinct = Distinct()
    for name in [*names, b"77"]:
        distinct.add(name)
    assert first_repeated([*names, b"77"], distinct.repeated()) == b"77"


# images


@pytest.mark.parametrize("name", WHOLE)
def test_an_image_that_is_cut_off_or_no_image_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    path, whole = tmp_path / "images" / "cat" / name, WHOLE[name]
    path.write_bytes(whole)
    assert good(tmp_path / "images").samples == 1
    if name != "a.pgm":
        path.write_bytes(whole[:-6])
        assert f"cat/{name}, which is a truncated" in error(tmp_path / "images")
    path.write_bytes(b"<html>not found</html>")
    assert "is no image" in error(tmp_path / "images")
    path.write_bytes(b"")
    assert "is empty" in error(tmp_path / "images")


def test_a_png_with_a_changed_byte_is_named(tmp_path: Path) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    body = bytearray(small_png("comment"))
    body[body.index(b"comment")] ^= 1
    (tmp_path / "images" / "cat" / "1.png").write_bytes(body)
    assert "a checksum is wrong" in error(tmp_path / "images")


# what is not read as it is


def test_hugging_faces_own_form_is_refused_with_how_to_convert_it(tmp_path: Path) -> None:
    for directory in ("single", "dict/train"):
        (tmp_path / directory).mkdir(parents=True)
        for name in ("data-00000-of-00001.arrow", "state.json", "dataset_info.json"):
            (tmp_path / directory / name).write_bytes(b"ARROW1\0\0" if name.endswith("arrow") else b"{}")
    (tmp_path / "dict" / "dataset_dict.json").write_text("{}")
    for name in ("single", "dict", "single/data-00000-of-00001.arrow"):
        assert "to_parquet" in error(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "body"),
    [("x.mp4", b"anything"), ("x.bin", bytes(4) + b"ftypisom" + bytes(20)), ("x.mkv", b"\x1aE\xdf\xa3"),
     ("frames/cat/x.avi", b"RIFF....AVI ")],
)  # fmt: skip
def test_a_video_is_refused_with_how_to_convert_it(tmp_path: Path, name: str, body: bytes) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    assert "ffmpeg" in error(tmp_path / "frames" if "/" in name else path)


# labels


def test_labels_are_counted_only_where_it_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('x,y\n1,cat\n2,"dog"\n3,cat\n')
    assert good(tmp_path / "x.csv", label="y", counts_labels=True).labels == {"cat": 2, "dog": 1}
    assert good(tmp_path / "x.csv", label="y").labels == {}
    assert good(tmp_path / "x.csv", counts_labels=True).labels == {}  # no column is the usual one
    assert "no column z" in error(tmp_path / "x.csv", label="z")
    for kind in ("int64", ">i2", "uint8", "bool", "U5", "S5"):
        y = np.array([1, 0, 1]).astype(kind)
        np.savez_compressed(tmp_path / "x.npz", x=np.ones((3, 2)), y=y)
        values = [str(value.decode() if isinstance(value, bytes) else value) for value in y.astype(
            "uint8" if kind == "bool" else y.dtype).tolist()]  # fmt: skip
        assert good(tmp_path / "x.npz", counts_labels=True).labels == {each: values.count(each) for each in set(values)}
    np.savez(tmp_path / "f.npz", x=np.ones((3, 2)), y=np.ones(3))
    assert good(tmp_path / "f.npz", counts_labels=True).labels == {}  # fractions are no classes


def test_many_different_labels_are_values_and_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_counts, "MOST", 3)
    (tmp_path / "x.csv").write_text("x,y\n" + "".join(f"1,{number}\n" for number in range(5)))
    assert good(tmp_path / "x.csv", label="y", counts_labels=True).labels == {}


def test_a_parquet_with_a_damaged_page_is_an_error(tmp_path: Path) -> None:
    core, arro3 = pytest.importorskip("arro3.core"), pytest.importorskip("arro3.io")
    table = core.Table.from_pydict({"x": core.Array.from_numpy(np.arange(5000)),
                                    "y": core.Array.from_numpy(np.arange(5000) % 3)})  # fmt: skip
    path = tmp_path / "x.parquet"
    arro3.write_parquet(table, path)
    assert good(path, label="y", counts_labels=True).labels == {"0": 1667, "1": 1667, "2": 1666}
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    assert "damaged" in error(path, label="y", counts_labels=True)
    path.write_bytes(whole[:-50])
    assert "truncated" in error(path)
