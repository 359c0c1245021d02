"""Packages of code as files: one form, which every unzip reads, and of which no byte can differ."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract.package_file import (
    Content,
    check_contents,
    check_digest,
    read_package,
    unpack,
    write_package,
)
from heliograph.bus.contract.resources import WeightsRef
from heliograph.core.errors import Refused
from heliograph.core.package_paths import MANIFEST, MAX_FILES, MAX_NAME, MAX_SIZE, collision, is_path
from tests.packed import packed

FILES = {"train.py": b"import helpers.numbers\n", "helpers/numbers.py": b"ONE = 1\n", "ü.txt": b"",
         "z" * 200: b"z" * 5000}  # fmt: skip
PACKAGE = packed(FILES)
_PLAIN = stat.S_IFREG | 0o644


def _read(content: bytes) -> tuple[list[str], str]:
    file = io.BytesIO(content)
    files, manifest = read_package(file, "the package")
    check_contents(file, files, "the package")
    return [each.name for each in files], manifest.entry_point


def _refused(content: bytes) -> str:
    with pytest.raises(Refused) as refused:
        _read(content)
    assert refused.value.code == "bad-package"
    return str(refused.value)


def _written(files: dict[str, Content]) -> bytes:
    target = io.BytesIO()
    write_package(files, target)
    return target.getvalue()


def test_every_unzip_reads_a_package() -> None:
    assert _read(PACKAGE.content) == (sorted([*FILES, MANIFEST], key=str.encode), "train.py")
    with zipfile.ZipFile(io.BytesIO(PACKAGE.content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in FILES} == FILES
        assert {stat.S_IMODE(each.external_attr >> 16) for each in archive.infolist()} == {0o644}


def test_its_files_are_written_for_their_user_alone(tmp_path: Path) -> None:
    content = _written({MANIFEST: Content(b'{"entryPoint": "a/run.py"}'), "a/run.py": Content(b"1", True)})
    file = io.BytesIO(content)
    unpack(file, read_package(file, "it")[0], tmp_path, "it")
    assert (tmp_path / "a" / "run.py").read_bytes() == b"1"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"a": 0o700, "run.py": 0o500, MANIFEST: 0o400}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_byte_of_a_package_can_differ(data: Any) -> None:
    place = data.draw(st.integers(0, len(PACKAGE.content) - 1))
    other = bytearray(PACKAGE.content)
    other[place] ^= data.draw(st.integers(1, 255))
    _refused(bytes(other))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_package_or_are_refused_in_a_sentence(content: bytes, ending: bool) -> None:
    _refused(content + (PACKAGE.content[-22:] if ending else b""))


def _zipped(name: str, data: bytes = b"1", *, mode: int = stat.S_IFREG | 0o644, method: int = 0) -> bytes:
    """Return a zip as another program writes it, with a manifest beside a file."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for each, content, bits in ((name, data, mode), (MANIFEST, b'{"entryPoint": "a.py"}', _PLAIN)):
            info = zipfile.ZipInfo(each)
            info.external_attr, info.compress_type = bits << 16, method
            archive.writestr(info, content)
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (_zipped("../a.py"), "'..'"),
        (_zipped("/a.py"), "a relative path"),
        (_zipped("a/../../b.py"), "'..'"),
        (_zipped("a\\..\\b.py"), "a relative path"),
        (_zipped(".hidden.py"), "hidden"),
        (_zipped("__pycache__/a.cpython-311.pyc"), "__pycache__"),
        (_zipped("a.py", b"/etc/passwd", mode=stat.S_IFLNK | 0o777), "a symbolic link"),
        (_zipped("a.py", mode=stat.S_IFCHR | 0o644), "a plain file"),
        (_zipped("a.py", mode=stat.S_IFREG | 0o4755), "a plain file"),
        (_zipped("a.py", b"0" * 10_000_000, method=zipfile.ZIP_DEFLATED), "stored without compression"),
        (_zipped("a.py"), "the header of a.py"),  # made by another version
        (b"", "a zip"),
        (b"PK\3\4 no zip", "a zip"),
        (PACKAGE.content + b"more", "a zip"),
        (b"more" + PACKAGE.content, "a zip"),
        (PACKAGE.content[:-1], "a zip"),
    ],
)  # fmt: skip
def test_what_is_no_package_is_refused_with_the_reason(content: bytes, what: str) -> None:
    assert what in _refused(content)


def _forged(*entries: tuple[bytes, int, int, int], data: bytes = b"12345678") -> bytes:
    """Return a zip with these entries of its list: name, size, offset of the header, mode."""
    local = b""
    for name, size, _, _ in entries:
        local += struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0x800, 0, 0, 0x21, zlib.crc32(data[:size]), size, size,
                             len(name), 0) + name + data[:size]  # fmt: skip
    directory = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\1\2", 3 << 8 | 20, 20, 0x800, 0, 0, 0x21, zlib.crc32(data[:size]), size, size,
                    len(name), 0, 0, 0, 0, mode << 16, offset) + name
        for name, size, offset, mode in entries
    )  # fmt: skip
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(entries), len(entries), len(directory), len(local), 0)
    return local + directory + end


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (_forged((b"a.py", 8, 0, _PLAIN), (b"b.py", 8, 0, _PLAIN)), "at byte 42"),  # both at the same bytes
        (_forged((b"b.py", 8, 0, _PLAIN), (b"a.py", 8, 42, _PLAIN)), "sorted by name"),
        (_forged((b"a.py", 8, 0, _PLAIN), (b"a.py", 8, 42, _PLAIN)), "each file once"),
        (_forged((b"A.py", 8, 0, _PLAIN), (b"a.py", 8, 42, _PLAIN)), "differ in more than case"),
        (_forged((b"a", 8, 0, _PLAIN), (b"a/b.py", 8, 39, _PLAIN)), "a file that is a directory"),
        (_forged((b"a.py", 8, 0, _PLAIN)), MANIFEST),
        (_forged((b"\xff.py", 8, 0, _PLAIN)), "UTF-8"),
        (_forged((b"a.py", 8, 9, _PLAIN)), "at byte 0"),
        (_forged(*[(b"%05d" % number, 0, 0, _PLAIN) for number in range(MAX_FILES + 1)]), f"1 to {MAX_FILES} files"),
        (_forged(), f"1 to {MAX_FILES} files"),
    ],
)
def test_a_forged_list_of_files_is_refused(content: bytes, what: str) -> None:
    found = _refused(content)
    assert what in found or (what.startswith("a file") and "file that is a directory" in found)


def test_nothing_large_is_read_to_refuse_it() -> None:
    class Large(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            return MAX_SIZE + 1 if whence else super().seek(offset)

    with pytest.raises(Refused, match=f"at most {MAX_SIZE} bytes"):
        read_package(Large(), "it")
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 1 << 31, 0, 0)
    assert "a zip" in _refused(b"0" * 100 + end)


@pytest.mark.parametrize(
    ("manifest", "what"),
    [
        (b"", MANIFEST), (b"[]", "an object"), (b"{}", "entryPoint"), (b'{"entryPoint": "b.py"}', "b.py"),
        (b'{"entryPoint": "../a.py"}', "entryPoint"), (b'{"entryPoint": "/a.py"}', "entryPoint"),
        (b'{"entryPoint": "a.sh"}', "entryPoint"), (b'{"entryPoint": "a.py", "command": "sh"}', "command"),
        (b'{"entryPoint": "a.py", "parameters": {"rate": {"type": 3}}}', "a type"),
        (b'{"entryPoint": "a.py", "parameters": {"rate": {"default": [1]}}}', "as default"),
        (b'{"entryPoint": "a.py", "parameters": {"rate": {"default": 1e999}}}', "parameters"),
        (b'{"entryPoint": "a.py", "parameters": {"rate": {"default": 1' + b"0" * 30 + b"}}}", "as default"),
        (b'{"entryPoint": "a.py", "parameters": {"": {}}}', "names of 1"),
        (b'{"entryPoint": "a.py", "parameters": ' + b'{"a":' * 9000 + b"1", MANIFEST),
        (b" " * (1 << 17), MANIFEST),
    ],
)  # fmt: skip
def test_a_manifest_that_says_nothing_or_too_much_is_refused(manifest: bytes, what: str) -> None:
    assert what in _refused(_written({"a.py": Content(b"1"), MANIFEST: Content(manifest)}))


def test_another_file_than_the_declared_one_is_refused() -> None:
    ref = PACKAGE.ref
    file = io.BytesIO(PACKAGE.content)
    check_digest(file, ref, "it")
    for wrong in (WeightsRef(digest="0" * 64, size=ref.size), WeightsRef(digest=ref.digest, size=ref.size + 1)):
        with pytest.raises(Refused, match=r"SHA-256|bytes, as declared"):
            check_digest(file, wrong, "it")


def test_names_of_files() -> None:
    assert all(map(is_path, ["a", "a/b.py", "ü b.txt", "C:/a", "a..b", "x" * 255]))
    wrong = ["", "/", "a//b", "a/", "..", "a/..", ".", "./a", ".git/config", "a\nb", "a\0", "\ud800", "x" * 256,
             "a/" * 300 + "a", "a\\b", "\u202ea"]  # fmt: skip
    assert [name for name in wrong if is_path(name)] == []
    assert len("a/" * 300) > MAX_NAME
    assert collision(["a", "b/c", "b/d"]) == ""
    assert collision(["a/b", "A/B"]) == "A/B"
    assert collision(["A", "a/b"]) == "A"
    with pytest.raises(Refused, match="a relative path"):
        _written({"../a": Content(b"")})
