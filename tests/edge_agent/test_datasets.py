"""Indexing local files and resolving URLs: any file gives an index or a sentence."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.edge_agent.datasets import csv_file, file_forms, index, indexing, npz_file, resolve

NUMBERS = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint64", "float16", "float32", "float64", "complex64"]


def npz(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, body in members.items():
            archive.writestr(f"{name}.npy", body)
    return path


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode("utf-8" if version == 3 else "latin-1")
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + data


def error(path: Path, format: str | None = None) -> str:
    """Return the error of an index; fail if the index has anything else."""
    found = index("d", path, format)
    assert found.error.startswith(str(path))
    assert (found.samples, found.columns, found.digest, found.format, found.size) == (0, {}, "", "", 0)
    return found.error.removeprefix(f"{path} ")


class TestNpz:
    @given(
        shapes=st.dictionaries(
            st.from_regex(r"[a-zé_][a-z0-9_.]{0,8}", fullmatch=True).filter(lambda name: not name.endswith(".npy")),
            st.tuples(st.sampled_from(NUMBERS), st.lists(st.integers(0, 4), max_size=3), st.booleans()),
            min_size=1,
            max_size=5,
        ),
        samples=st.integers(1, 9),
        compressed=st.booleans(),
        swapped=st.booleans(),
    )
    @settings(max_examples=150, deadline=None)
    def test_describes_files_written_by_numpy(
        self, tmp_path_factory: Any, shapes: Any, samples: int, compressed: bool, swapped: bool
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "any.npz"
        members = {}
        for name, (dtype, shape, fortran) in shapes.items():
            kind = np.dtype(dtype).newbyteorder(">") if swapped else np.dtype(dtype)
            stream = io.BytesIO()
            np.save(stream, np.zeros((samples, *shape), kind, order="F" if fortran else "C"))
            members[name] = stream.getvalue()
        npz(path, members, zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED)
        found = index("d", path)
        assert found.error == ""
        assert found.samples == samples
        for name, (dtype, shape, _) in shapes.items():
            assert found.columns[name] == dtype + (f"[{','.join(map(str, shape))}]" if shape else "")
        assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (found.format, found.size) == ("npz", path.stat().st_size)

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_reads_savez(self, tmp_path: Path, save: Any) -> None:
        path = tmp_path / "x.npz"
        save(path, x=np.ones((100, 64), np.float32), y=np.arange(100), image=np.zeros((100, 28, 28), order="F"))
        assert index("d", path).columns == {"x": "float32[64]", "y": "int64", "image": "float64[28,28]"}

    def test_reads_text_dates_and_records(self, tmp_path: Path) -> None:
        path = tmp_path / "x.npz"
        inner = [("a", "i1"), ("b", "S3")]
        record = np.dtype([("t", "M8[ns]"), (("Title", "v"), "<f4", (2, 3)), ("in", inner)], align=True)
        np.savez(path, r=np.zeros(4, record), s=np.array(["ab", "cde", "", "f"]), d=np.zeros((4, 2), "m8[D]"))
        assert index("d", path).columns == {
            "r": "{t: datetime64[ns], v: float32[2,3], in: {a: int8, b: S3}}",
            "s": "U3",
            "d": "timedelta64[D][2]",
        }

    @pytest.mark.parametrize("version", [1, 2, 3])
    def test_reads_each_header_version(self, tmp_path: Path, version: int) -> None:
        header = "{'descr': [('é', '<f4')], 'fortran_order': False, 'shape': (3,), }\n"
        path = npz(tmp_path / "x.npz", {"x": npy(header, bytes(12), version)})
        assert index("d", path).columns == {"x": "{é: float32}"}

    def test_an_unknown_suffix_is_recognised_by_content(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", x=np.ones(3))
        path = (tmp_path / "x.npz").rename(tmp_path / "data")
        assert index("d", path).samples == 3

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"x": np.ones((3, 2)), "y": np.ones(4)}, ["x has 3", "y has 4", "one length"]),
            ({"x": np.ones(3), "names": np.array([1, "a", None], object)}, ["'names'", "pickle", "convert"]),
            ({"x": np.zeros(2, [("a", "f4"), ("b", "O")])}, ["'x'", "pickle"]),
            ({"x": np.ones(3), "rate": np.float32(0.1)}, ["'rate'", "axis of samples"]),
            ({"x": np.ones((0, 64), np.float32)}, ["zero samples"]),
            ({}, ["without .npy arrays"]),
        ],
    )
    def test_names_the_array_that_is_wrong(self, tmp_path: Path, arrays: dict[str, Any], words: list[str]) -> None:
        path = tmp_path / "x.npz"
        np.savez(path, **arrays)
        if not arrays:
            npz(path, {}).write_bytes(path.read_bytes())
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("readme.txt", "no arrays")
        text = error(path)
        assert all(word in text for word in words), text

    @pytest.mark.parametrize("compressed", [False, True])
    def test_truncated_anywhere_is_an_error(self, tmp_path: Path, compressed: bool) -> None:
        path = tmp_path / "x.npz"
        save: Any = np.savez_compressed if compressed else np.savez
        save(path, x=np.arange(200.0), y=np.arange(200))
        whole = path.read_bytes()
        for length in range(1, len(whole), 7):
            path.write_bytes(whole[:length])
            assert error(path)
        path.write_bytes(whole[: len(whole) // 2])
        assert "copy it again" in error(path)

    @given(place=st.integers(0, 10**6), value=st.integers(0, 255))
    @settings(max_examples=300, deadline=None)
    def test_a_changed_byte_never_raises(self, tmp_path_factory: Any, place: int, value: int) -> None:
        path = tmp_path_factory.getbasetemp() / "changed.npz"
        np.savez_compressed(path, x=np.arange(20.0), y=np.arange(20))
        body = bytearray(path.read_bytes())
        body[place % len(body)] = value
        path.write_bytes(body)
        found = index("d", path)
        assert bool(found.error) != bool(found.digest)

    def test_a_bomb_is_not_inflated(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "bomb.npz"
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (16777216,), }".ljust(117) + "\n"
        npz(path, {"x": npy(header, bytes(4 << 24))}, zipfile.ZIP_DEFLATED)
        taken = 0
        read = zipfile.ZipExtFile.read

        def counting(self: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
            nonlocal taken
            part = read(self, n)
            taken += len(part)
            return part

        monkeypatch.setattr(zipfile.ZipExtFile, "read", counting)
        assert index("d", path).samples == 1 << 24
        assert taken == 10 + 118

    @pytest.mark.parametrize(
        "body",
        [
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(4)),
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}"),
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", bytes(4)),
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"),
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': 2}", bytes(8)),
            npy("{'descr': '<q9', 'fortran_order': False, 'shape': (2,)}", bytes(8)),
            npy("{'descr': [('a', 'V99999999', ('x' * 9,))], 'fortran_order': False, 'shape': (2,)}"),
            npy("{'descr': [('a', 'V999999999', ('xxxxxxxxxxxxx',))], 'fortran_order': False, 'shape': (2,)}"),
            npy("{'descr': " + "[('a', " * 40 + "'<f4'" + ")]" * 40 + ", 'fortran_order': False, 'shape': (2,)}"),
            npy("__import__('os').system('true')"),
            npy("(" * 5000),
            npy("-" * 9000 + "1"),
            npy("+".join("1" * 4900)),
            npy("x" + "[0]" * 3000),
            npy("not " * 2400 + "1"),
            npy("[" * 90 + "]" * 90),
            npy("{}"),
            npy("7" * 9000),
            npy(" " * 10_001, version=2),
            b"\x93NUMPY\x01\x00\xff\xff{",
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
            b"\x93NUMPY\x04\x00\x01\x00{",
            b"not an array",
            b"",
        ],
    )
    def test_a_hostile_header_is_an_error_and_nothing_else(self, tmp_path: Path, body: bytes) -> None:
        assert "'x'" in error(npz(tmp_path / "x.npz", {"x": body}))

    def test_refuses_files_that_numpy_could_not_read(self, tmp_path: Path) -> None:
        good = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", bytes(4))
        assert "compression" in error(npz(tmp_path / "x.npz", {"x": good}, zipfile.ZIP_LZMA))
        locked = bytearray(npz(tmp_path / "y.npz", {"x": good}).read_bytes())
        locked[locked.index(b"PK\x01\x02") + 8] |= 1
        (tmp_path / "y.npz").write_bytes(locked)
        assert "encrypted" in error(tmp_path / "y.npz")
        with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
            archive.writestr("x.npy", good)
            archive.writestr("x.npy", good)
        assert "twice" in error(tmp_path / "z.npz")

    def test_an_index_stays_small_enough_to_report(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        np.savez(tmp_path / "x.npz", **{f"array{number}": np.ones(1) for number in range(20)})
        monkeypatch.setattr(indexing, "MAX_TEXT", 100)
        assert list(index("d", tmp_path / "x.npz").columns.items())[-1] == ("…", "13 more columns")
        monkeypatch.setattr(npz_file, "MAX_DIRECTORY", 1000)
        assert "table of contents of" in error(tmp_path / "x.npz")


class TestCsv:
    @given(
        header=st.lists(st.text(max_size=6).filter(lambda t: "\0" not in t), min_size=2, max_size=4, unique=True),
        rows=st.lists(st.lists(st.text(max_size=6), min_size=4, max_size=4), min_size=1, max_size=6),
        ending=st.sampled_from(["\r\n", "\n"]),
    )
    @settings(max_examples=200, deadline=None)
    def test_counts_rows_written_by_the_csv_module(
        self, tmp_path_factory: Any, header: list[str], rows: list[list[str]], ending: str
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "any.csv"
        with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
            writer = csv.writer(file, lineterminator=ending, quoting=csv.QUOTE_ALL)
            writer.writerow(header)
            writer.writerows(row[: len(header)] for row in rows)
        found = index("d", path, header="yes")
        null = any("\0" in cell for row in rows for cell in row[: len(header)])
        assert ("null character" in found.error) if null else not found.error
        if not null:
            assert (found.samples, len(found.columns)) == (len(rows), len(header))

    def test_tells_numbers_from_text(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text('\ufeff,a,b,c,d,e\n1,1.5,x,,"line\nbreak",1_0\n\n2,-1e9,3,,"a, ""b""",2\n3,nan, ,,y,3\n')
        found = index("d", path)
        assert found.samples == 3
        assert list(found.columns.values()) == ["number", "number", "text", "text", "text", "text"]
        assert list(found.columns) == ["", "a", "b", "c", "d", "e"]
        assert (found.format, found.digest) == ("csv", hashlib.sha256(path.read_bytes()).hexdigest())

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"a,b\n1,2\n3\n", ["1 fields in line 3", "expected 2"]),
            (b'a,b\n"x\ny",2\n1,2,3\n', ["3 fields in line 4"]),
            (b"a,b\n1,2\n3,4,5", ["line 3"]),
            (b'a,b\n1,"2\n', ["unexpected end of data"]),
            (b"a,b\n", ["no rows"]),
            (b"\n\n", ["no header"]),
            (b"\0\1\2,\0\n", ["null character in line 1"]),
            (b"a,b\n1,2\n\0,2\n", ["null character in line 3"]),
            (b"\xff\xfea\0,\0b\0\n\0001\0,\0002\0\n", ["UTF-16"]),
        ],
    )
    def test_names_the_line_that_is_wrong(self, tmp_path: Path, body: bytes, words: list[str]) -> None:
        path = tmp_path / "x.csv"
        path.write_bytes(body)
        text = error(path)
        assert all(word in text for word in words), text

    def test_a_row_without_end_is_not_gathered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(csv_file, "MAX_ROW", 1000)
        path = tmp_path / "x.csv"
        path.write_text("a,b\n" + "1,2\n" * 1000 + '1,"' + ("x" * 90 + '\n","') * 100)
        assert "more than 1000 characters" in error(path)
        path.write_text("x" * 5000)
        assert "more than 1000 characters" in error(path)
        path.write_text("a,b\n" + "1,2\n" * 1000)
        assert index("d", path).samples == 1000


class TestAnyFile:
    def test_names_the_fault_of_the_path(self, tmp_path: Path) -> None:
        assert "does not exist" in error(tmp_path / "none.npz")
        (tmp_path / "file").write_text("a,b\n1,2\n")
        assert "does not exist" in error(tmp_path / "file" / "x.npz")
        assert "holds file, which is named as no data file" in error(tmp_path)
        assert "spec.format" in error(tmp_path / "file")
        assert "expected npz or csv or npy or parquet or images or txt" in error(tmp_path / "file", "hdf5")
        assert index("d", tmp_path / "file", "csv").samples == 1
        os.mkfifo(tmp_path / "pipe.npz")
        assert "regular" in error(tmp_path / "pipe.npz")
        assert "path" in index("d", Path("a\0b")).error

    def test_names_a_missing_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def denied(*_: Any) -> int:  # simulated, because root may read every file
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", denied)
        assert "permission" in error(tmp_path / "x.csv")

    def test_names_the_actual_format(self, tmp_path: Path) -> None:
        (tmp_path / "x.npz").write_text("a,b\n1,2\n")
        assert "no zip" in error(tmp_path / "x.npz")
        assert index("d", tmp_path / "x.npz", "csv").samples == 1
        np.savez(tmp_path / "y.npz", x=np.ones(3))
        assert "zip" in error(tmp_path / "y.npz", "csv")
        np.save(tmp_path / "z.npy", np.ones(3))
        assert "set spec.format: npy" in error(tmp_path / "z.npy", "npz")
        (tmp_path / "empty.npz").touch()
        assert "empty" in error(tmp_path / "empty.npz")

    @given(body=st.binary(max_size=300), format=st.sampled_from(["npz", "csv", None]))
    @settings(max_examples=200, deadline=None)
    def test_bytes_never_raise(self, tmp_path_factory: Any, body: bytes, format: str | None) -> None:
        path = tmp_path_factory.getbasetemp() / "bytes.csv"
        path.write_bytes(body)
        found = index("d", path, format)
        assert bool(found.error) != bool(found.digest)

    def test_a_file_that_changes_meanwhile_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "x.csv"
        path.write_text("a,b\n1,2\n")
        surveyed = file_forms.csv_file.survey

        def survey(*args: Any) -> Any:
            found = surveyed(*args)
            with path.open("a") as other:
                other.write("3,4\n")
            return found

        monkeypatch.setattr(file_forms.csv_file, "survey", survey)
        assert "changed while it was read" in error(path)


class TestResolve:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        (tmp_path / "data" / "inner").mkdir(parents=True)
        (tmp_path / "data" / "x y.npz").touch()
        (tmp_path / "data" / "inner" / "z.csv").touch()
        (tmp_path / "secret.npz").touch()
        (tmp_path / "data" / "out").symlink_to(tmp_path / "secret.npz")
        (tmp_path / "data" / "up").symlink_to(tmp_path)
        (tmp_path / "data" / "in").symlink_to("inner/z.csv")
        (tmp_path / "data" / "circle").symlink_to("circle")
        (tmp_path / "link").symlink_to("data")
        (tmp_path / "database").mkdir()
        (tmp_path / "database" / "x.npz").touch()
        return tmp_path / "data"

    def test_finds_files_below_a_root(self, data: Path) -> None:
        want = data / "x y.npz"
        for url in (f"file://{data}/x%20y.npz", f"file://localhost{want}", str(want), "x y.npz", "inner/../x y.npz"):
            assert resolve(url, [data]) == want
        assert resolve(f"{data.parent}/link/x y.npz", [data]) == want
        assert resolve("x y.npz", [data.parent / "link"]) == want
        assert resolve("in", [data]) == data / "inner" / "z.csv"
        assert resolve("not there.npz", [data]) == data / "not there.npz"
        assert resolve("a?b#c.npz", [data]) == data / "a?b#c.npz"

    def test_prefers_the_root_that_has_the_file(self, data: Path) -> None:
        roots = [data, data.parent / "database"]
        assert resolve("x.npz", roots) == roots[1] / "x.npz"
        assert resolve("in", roots) == data / "inner" / "z.csv"
        assert resolve("nowhere.npz", roots) == data / "nowhere.npz"

    @pytest.mark.parametrize(
        "url",
        ["", ".", "/", "..", "../secret.npz", "inner/../../secret.npz", "out", "up/secret.npz", "circle", "../data",
         "circle/../../secret.npz", "../database/x.npz", "/etc/passwd", "file:///etc/passwd", "FILE:///etc/passwd",
         "file:///%2e%2e/secret.npz", "file://host/data/x.npz", "file:x.npz", "http://host/x.npz", "https:///x.npz",
         "a\0b", "a%00b://", "file:///%00", "file://[x", "x" * 4000],
    )  # fmt: skip
    def test_refuses_every_other_url(self, data: Path, url: str) -> None:
        with pytest.raises(Refused) as caught:
            resolve(url, [data])
        assert caught.value.field == "spec.url"
        assert str(data) in str(caught.value)
        assert "--data DIR" in caught.value.hint

    @given(parts=st.lists(st.sampled_from(["..", ".", "inner", "up", "out", "data", "secret.npz", ""]), max_size=8))
    @settings(max_examples=200, deadline=None)
    def test_no_path_leads_out(self, tmp_path_factory: Any, parts: list[str]) -> None:
        data = tmp_path_factory.getbasetemp() / "resolve" / "data"
        if not data.exists():
            (data / "inner").mkdir(parents=True)
            (data / "up").symlink_to(data.parent)
            (data / "out").symlink_to(data.parent / "secret.npz")
        try:
            found = resolve("/".join(parts), [data])
        except Refused:
            return
        assert found.resolve() == found and data.resolve() in found.parents

    def test_without_roots_nothing_is_allowed(self) -> None:
        with pytest.raises(Refused, match=r"no root is allowed.*--data DIR"):
            resolve("x.npz", [])
