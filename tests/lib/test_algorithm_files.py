"""Packages from folders and zips: the same files have the same digest, and what no package may have is named."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from heliograph import package_sources
from heliograph.algorithm_files import document_of, pack, read
from heliograph.bus.contract.package_signature import check_signature
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import Algorithm
from heliograph.core.errors import Refused
from heliograph.core.package_paths import MANIFEST
from heliograph.core.signing import Signer
from heliograph.core.world import World

MAX_FILES, MAX_SIZE = 64, 1 << 20


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test reaches in a moment."""
    monkeypatch.setattr(package_sources, "MAX_FILES", MAX_FILES)
    monkeypatch.setattr(package_sources, "MAX_SIZE", MAX_SIZE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project as people have it."""
    code = tmp_path / "digits"
    for name, text in {"train.py": "import parts", "parts/__init__.py": "", "parts/vocabulary.txt": "a b",
                       ".git/config": "token", ".env": "secret", "parts/__pycache__/x.pyc": "x",
                       "heliograph-runs/train-1/log.txt": ""}.items():  # fmt: skip
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(text)
    (code / "train.py").chmod(0o755)
    return code


def _refused(place: Path, manifest: dict[str, object] | None = None) -> str:
    with pytest.raises(Refused) as refused:
        pack(place, manifest or {"entryPoint": "train.py"})
    assert str(place) in str(refused.value)
    return str(refused.value)


def test_the_same_files_have_the_same_digest_wherever_they_come_from(folder: Path, tmp_path: Path) -> None:
    manifest = {"entryPoint": "train.py", "framework": "numpy", "parameters": {"rate": {"type": "number"}}}
    package = pack(folder, manifest)
    with zipfile.ZipFile(io.BytesIO(package.content)) as archive:
        assert archive.namelist() == [MANIFEST, "parts/__init__.py", "parts/vocabulary.txt", "train.py"]
    assert sorted(package.left_out) == [".env", ".git", "heliograph-runs", "parts/__pycache__"]

    other = tmp_path / "elsewhere.zip"
    with zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*"), reverse=True):  # other order, dates, compression
            archive.write(path, path.relative_to(folder))
    assert pack(other, manifest).digest == package.digest

    (tmp_path / "package.zip").write_bytes(package.content)
    assert pack(tmp_path / "package.zip").digest == read(tmp_path / "package.zip").digest == package.digest
    (folder / MANIFEST).write_text('{"framework": "numpy", "entryPoint": "train.py",\n "parameters": '
                                   '{"rate": {"type": "number"}}}')  # fmt: skip
    assert pack(folder).digest == package.digest
    assert "field framework" in _refused(folder, {"framework": "torch"})
    (folder / "train.py").chmod(0o644)
    assert pack(folder).digest != package.digest


def test_the_only_script_is_the_entry_point(folder: Path) -> None:
    assert "2 Python files" in _refused(folder, {"framework": "numpy"})
    (folder / "parts" / "__init__.py").unlink()
    assert pack(folder).manifest.entry_point == "train.py"
    assert "absent.py" in _refused(folder, {"entryPoint": "absent.py"})
    for wrong in ("../train.py", "/etc/passwd", "parts/vocabulary.txt"):
        assert "entryPoint" in _refused(folder, {"entryPoint": wrong})


def _link(code: Path) -> None:
    (code / "parts" / "passwd").symlink_to("/etc/passwd")


def _link_to_directory(code: Path) -> None:
    (code / "all").symlink_to("/")


def _pipe(code: Path) -> None:
    os.mkfifo(code / "pipe")


def _backslash(code: Path) -> None:
    (code / "a\\b").write_text("")


def _large(code: Path) -> None:
    with (code / "data.npz").open("wb") as file:
        file.truncate(MAX_SIZE + 1)


def _many(code: Path) -> None:
    for number in range(MAX_FILES + 1):
        (code / f"{number}").touch()


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (_link, "parts/passwd, which is a symbolic link"),
        (_link_to_directory, "all, which is a symbolic link"),
        (_pipe, "pipe, which is neither file nor directory"),
        (_backslash, "a relative path"),
        (_large, "Keep data and models out of the package"),
        (_many, "at most 64 files"),
    ],
)
def test_a_folder_that_is_no_package(folder: Path, spoil: Callable[[Path], None], what: str) -> None:
    spoil(folder)
    assert what in _refused(folder)


def _zip(target: Path, name: str, data: bytes = b"1", mode: int = 0, method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr("train.py", "1")
        info = zipfile.ZipInfo(name)
        info.external_attr, info.compress_type = mode << 16, method
        archive.writestr(info, data)


def _lying(target: Path) -> None:
    """A file that says it has 10 bytes, and has three million."""
    _zip(target, "a", b"0" * 3_000_000)
    content = target.read_bytes()
    target.write_bytes(content.replace((3_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))


def _encrypted(target: Path) -> None:
    _zip(target, "a")
    content = bytearray(target.read_bytes())
    content[content.rindex(b"PK\1\2") + 8] |= 1
    target.write_bytes(bytes(content))


def _long_list(target: Path) -> None:
    target.write_bytes(b"PK\5\6" + bytes(8) + (1 << 30).to_bytes(4, "little") + bytes(6))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda target: _zip(target, "../../a.py"), "'..'"),
        (lambda target: _zip(target, "a/.././../b/"), "'..'"),
        (lambda target: _zip(target, "/etc/cron.d/a"), "a relative path"),
        (lambda target: _zip(target, "a", b"/etc/passwd", stat.S_IFLNK | 0o777), "a, which is a symbolic link"),
        (lambda target: _zip(target, "a", mode=stat.S_IFIFO | 0o644), "no plain file"),
        (lambda target: _zip(target, "bomb", bytes(MAX_SIZE + 1)), "Keep data and models out"),
        (lambda target: _zip(target, "a", method=zipfile.ZIP_BZIP2), "stored or deflated"),
        (_lying, "expected"),
        (_encrypted, "without a password"),
        (_long_list, "MB of names"),
        (lambda target: target.write_bytes(b"#!/bin/sh"), "a folder, or a zip"),
        (lambda target: target.write_bytes(b""), "a folder, or a zip"),
        (lambda target: target.write_bytes(b"PK\5\6" + bytes(18)), "Python files"),
    ],
)
def test_a_zip_that_is_no_package(tmp_path: Path, make: Callable[[Path], None], what: str) -> None:
    make(tmp_path / "it.zip")
    assert what in _refused(tmp_path / "it.zip", {"framework": "numpy"})


def test_a_path_twice_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "it.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("train.py", "good")
        archive.writestr("train.py", "other")
    assert "each path once" in _refused(tmp_path / "it.zip")


def test_the_document_of_a_package_says_what_its_manifest_says(folder: Path) -> None:
    parameters = {"rate": {"type": "number", "default": 0.1}}
    package = pack(folder, {"entryPoint": "train.py", "framework": "numpy", "parameters": parameters})
    signer = Signer.made(World())
    tree = document_of("digits", package, inline=True, signer=signer, description="digits by softmax")
    made = parse_resource(tree)
    assert isinstance(made, Algorithm)
    found = made.spec.package
    assert found is not None
    assert (found.ref, found.inline, found.entry_point) == (package.ref, package.content, "train.py")
    assert (made.spec.parameters, made.spec.description) == (parameters, "digits by softmax")
    assert found.signature is not None
    check_signature(found.signature, package.digest, {signer.key_id: signer.public_key})
