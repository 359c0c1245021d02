"""Arrays, directories, packed and hostile files as data sets: each is split as it is, or refused with a sentence."""

from __future__ import annotations

import gzip
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.edge_agent.datasets import index, source
from heliograph.local.split import Split
from tests.field.splitting import parts_of, refusal_of
from tests.small_images import small_png

# relatives: arrays


def test_an_npz_with_a_test_part_of_its_own(tmp_path: Path) -> None:
    x, y = np.arange(60).reshape(30, 2), np.arange(30) % 3
    np.savez_compressed(tmp_path / "m.npz", x_train=x, y_train=y[:, None], x_test=x[:5] + 100, y_test=y[:5, None])
    assert index("d", tmp_path / "m.npz").samples == 30
    parts = parts_of(tmp_path / "m.npz", tmp_path, Split(0.5), own_test=True)
    assert "a training part, and x_test, y_test for the test" in parts.found[0]
    seen = []
    for file in parts.files.values():
        with np.load(file) as found:  # the user's own line
            seen += found["x_train"][:, 0].tolist()
            assert (found["x_train"][:, 0] // 2 % 3 == found["y_train"][:, 0]).all()
            assert (found["x_test"] == x[:5] + 100).all()
    assert sorted(seen) == x[:, 0].tolist()
    assert parts.test is not None
    with np.load(parts.test) as found:
        assert (found["x_test"] == x[:5] + 100).all()
        assert (found["x_train"] == found["x_test"]).all()
        assert found["y_train"].shape == (5, 1)


@pytest.mark.parametrize("label", ["y", "Y", "arr_1", "train_labels"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["flat", "column", "one-hot"])
def test_labels_in_each_shape(tmp_path: Path, label: str, order: Any, kind: str) -> None:
    y = np.arange(30) % 3
    labels = {"flat": y, "column": y[:, None], "one-hot": np.eye(3)[y]}[kind]
    x = np.asarray(np.arange(180, dtype=">f4").reshape(30, 2, 3), order=order)
    np.savez(tmp_path / "a.npz", **{"arr_0": x, label: np.asarray(labels, order=order)})
    parts = parts_of(tmp_path / "a.npz", tmp_path, Split(labels=1))
    rows = []
    for file in parts.files.values():
        with np.load(file) as found:
            numbers = found["arr_0"][:, 0, 0].astype(int) // 6
            assert len(set(numbers % 3)) == 1
            assert (found["arr_0"] == x[numbers]).all()
            assert (found[label] == labels[numbers]).all()
            rows += numbers.tolist()
    assert sorted(rows) == list(range(30))


def test_one_array_alone_in_a_gz_and_a_directory_of_arrays(tmp_path: Path) -> None:
    x = np.arange(60.0).reshape(30, 2)
    np.save(tmp_path / "x.npy", x)
    parts = parts_of(tmp_path / "x.npy", tmp_path)
    assert sorted(np.concatenate([np.load(file) for file in parts.files.values()])[:, 0]) == x[:, 0].tolist()
    (tmp_path / "x.npy.gz").write_bytes(gzip.compress((tmp_path / "x.npy").read_bytes()))
    packed = parts_of(tmp_path / "x.npy.gz", tmp_path / "gz")
    with gzip.open(packed.files["edge-1"]) as file:
        assert np.load(file).shape == (10, 2)
    both = tmp_path / "both"
    both.mkdir()
    np.save(both / "x.npy", x)
    np.save(both / "y.npy", np.arange(30) % 3)
    parts = parts_of(both, tmp_path / "arrays", Split(labels=1), test=0.2)
    for directory in parts.files.values():
        assert len(set(np.load(directory / "y.npy"))) == 1
        assert (np.load(directory / "x.npy")[:, 0] // 2 % 3 == np.load(directory / "y.npy")).all()


# relatives: directories


def write_images(root: Path, *parts: str) -> Path:
    for part in parts or ("",):
        for name, count in (("cat", 9), ("dog", 7), ("a.b", 6)):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                (root / part / name / f"{number}.PNG").write_bytes(small_png(f"{part}{name}{number}"))
    (root / ".DS_Store").touch()
    return root


def test_an_image_folder_is_split_by_links_with_all_classes(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    found = index("d", images)
    assert (found.samples, found.format, found.columns["class"]) == (22, "images", "text, 3 directories")
    parts = parts_of(images, tmp_path, Split(labels=1), test=0.2)
    seen: list[bytes] = []
    for directory in [*parts.files.values(), parts.test]:
        assert directory is not None
        assert sorted(each.name for each in directory.iterdir()) == ["a.b", "cat", "dog"]
        seen += [each.read_bytes() for each in directory.glob("*/*")]
    assert Counter(seen) == Counter(each.read_bytes() for each in images.glob("*/*"))


def test_an_image_folder_with_a_test_directory(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", "train", "test")
    parts = parts_of(images, tmp_path, own_test=True)
    for directory in parts.files.values():
        assert len([*directory.glob("test/*/*")]) == 22
    assert sum(parts.samples.values()) == 22
    assert parts.test is not None
    assert [b"test" in each.read_bytes() for each in parts.test.glob("train/*/*")] == [True] * 22


def test_a_directory_of_csv_files_is_one_data_set(files: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for name in ("a.csv", "b.csv"):
        (shards / name).write_bytes((files / "iris.csv").read_bytes())
    assert index("d", shards).samples == 300
    parts = parts_of(shards, tmp_path, Split(0.5))
    assert sum(parts.samples.values()) == 300
    (shards / "c.csv").write_text("other\n1\n")
    assert "different columns" in refusal_of(shards, tmp_path / "again")
    assert "different columns" in index("d", shards).error


def test_a_directory_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    for make, words in (
        (lambda: None, "without files"),
        (lambda: (directory / "1.png").touch(), "directory for each class"),
        (lambda: (directory / "x.csv").touch(), "holds 1.png, which is named as no data file"),
        (lambda: (directory / "sub").mkdir(), "directories beside files"),
        (lambda: os.mkfifo(directory / "pipe"), "no regular file"),
    ):
        make()
        assert words in index("d", directory).error
    link = write_images(tmp_path / "images") / "cat" / "secret.png"
    link.symlink_to("/etc/passwd")
    assert "leads away" in index("d", tmp_path / "images", roots=(tmp_path,)).error
    link.unlink()
    link.symlink_to(tmp_path / "images" / "dog" / "0.PNG")
    assert index("d", tmp_path / "images", roots=(tmp_path,)).error == ""


# relatives: packed and hostile files


def test_a_bomb_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_UNPACKED", 3 << 19)
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * (1 << 19)))
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.csv", b"a,b\n" + b"1,2\n" * (1 << 19))
    for name in ("x.csv.gz", "x.zip"):
        assert "unpacks to more than" in index("d", tmp_path / name).error


@pytest.mark.parametrize(
    ("members", "words"),
    [(["a.csv", "b.csv"], "zip of 2 files"), (["a.parquet"], "packed already"), ([], "without .npy arrays"),
     (["__MACOSX/._a.csv", "a.csv"], "")],
)  # fmt: skip
def test_a_zip_holds_one_file(tmp_path: Path, members: list[str], words: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in members:
            archive.writestr(name, "a,b\n1,2\n")
    error = index("d", tmp_path / "x.zip").error
    assert words in error if words else not error


def test_a_truncated_gz_is_said_to_be(files: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv.gz").write_bytes((files / "iris.csv.gz").read_bytes()[:-100])
    assert "truncated or damaged" in index("d", tmp_path / "x.csv.gz").error


def test_a_parquet_is_indexed_without_a_library(files: Path) -> None:
    found = index("d", files / "iris.parquet")
    assert (found.samples, found.format) == (150, "parquet")
    assert list(found.columns.items())[-2:] == [("petal width (cm)", "float64"), ("target", "int64")]


@given(place=st.integers(0, 1 << 30), value=st.integers(0, 255), cut=st.integers(0, 400))
@settings(max_examples=80, deadline=None)
def test_a_damaged_parquet_never_raises(tmp_path_factory: Any, place: int, value: int, cut: int) -> None:
    whole = (Path(__file__).parents[1] / "data" / "field" / "files" / "iris.parquet").read_bytes()
    start = len(whole) - int.from_bytes(whole[-8:-4], "little") - 8
    body = bytearray(whole)
    body[start + place % (len(whole) - start)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    path.write_bytes(body[: len(body) - cut if cut % 3 == 0 else len(body)])
    found = index("d", path)
    assert bool(found.error) != bool(found.digest)


def test_a_parquet_is_split(files: Path, tmp_path: Path) -> None:
    io = pytest.importorskip("arro3.io")
    parts = parts_of(files / "iris.parquet", tmp_path, Split(0.5), test=0.2)
    tables = [io.read_parquet(file).read_all() for file in [*parts.files.values(), parts.test]]
    whole = io.read_parquet(files / "iris.parquet").read_all()
    for name in whole.column_names:
        written = [value for table in tables for value in table.column(name).to_numpy()]
        assert Counter(written) == Counter(whole.column(name).to_numpy())


def test_a_parquet_without_its_library_says_what_to_install(files: Path, tmp_path: Path) -> None:
    try:
        import arro3.io  # noqa: F401
    except ImportError:
        assert "pip install 'heliograph[data]'" in refusal_of(files / "iris.parquet", tmp_path)


def test_a_refusal_is_a_refusal(files: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="at least 6 samples for 3 edges, got 3"):
        parts_of(files / "tiny.npz", tmp_path)
