"""The content of the built wheel and sdist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LINKED = ("bus", "coordinator", "edge_agent", "simulations", "workers")
"""The folders at the root that lib/heliograph links to."""
HEAVY = {"numpy", "scipy", "scikit-learn", "safetensors", "torch", "tensorflow", "tensorflow-cpu", "keras"}


def build(what: str, source: Path, target: Path) -> Path:
    """Call the project's build backend as pip does, with the installed packages and no network."""
    code = "import sys; from setuptools import build_meta; getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2])"
    target.mkdir()
    done = subprocess.run([sys.executable, "-c", code, what, target], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = target.iterdir()
    return built


def files(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project without build results and caches."""
    copy = tmp_path_factory.mktemp("source") / "heliograph"
    leftovers = shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=leftovers)
    return copy


@pytest.fixture(scope="module")
def sdist(tree: Path) -> Path:
    return build("sdist", tree, tree.parent / "sdist")


@pytest.fixture(scope="module")
def wheel(tree: Path, sdist: Path) -> dict[str, bytes]:
    """Return the files of the wheel built from the tree."""
    return files(build("wheel", tree, tree.parent / "wheel"))


@pytest.fixture(scope="module")
def metadata(wheel: dict[str, bytes]) -> Message:
    [name] = [name for name in wheel if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel[name].decode())


def requirements(metadata: Message, extra: str = "") -> set[str]:
    """Return the names of the distributions that are required always, or with an extra."""
    all_of_them = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    return {
        canonicalize_name(each.name)
        for each in all_of_them
        if (each.marker is None or each.marker.evaluate({"extra": extra}))
        and (not extra or (each.marker is not None and not each.marker.evaluate({"extra": ""})))
    }


def in_packages(tree: Path) -> set[str]:
    """Return the path in the wheel of each file of the packages."""
    package = tree / "lib" / "heliograph"
    found = set()
    for folder, folders, names in os.walk(package, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found |= {(Path(folder) / name).relative_to(tree / "lib").as_posix() for name in names}
    return found


def test_everything_is_under_one_name(wheel: dict[str, bytes]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    [info] = tops - {"heliograph"}
    assert re.fullmatch(r"heliograph-[0-9][^/]*\.dist-info", info)
    [top_level] = [text for name, text in wheel.items() if name.endswith("top_level.txt")]
    assert top_level.split() == [b"heliograph"]


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(tree: Path, wheel: dict[str, bytes]) -> None:
    packed = {name for name in wheel if name.startswith("heliograph/")}
    expected = in_packages(tree)
    assert expected - packed == set(), "add the data files to tool.setuptools.package-data in pyproject.toml"
    assert packed - expected == set()
    assert "heliograph/py.typed" in packed
    for name in packed:
        assert wheel[name] == (tree / "lib" / name).read_bytes(), name


@pytest.mark.parametrize("folder", LINKED)
def test_a_linked_folder_is_a_package_of_the_wheel(folder: str, tree: Path, wheel: dict[str, bytes]) -> None:
    link = tree / "lib" / "heliograph" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("../..") / folder
    modules = {f"heliograph/{path.relative_to(tree).as_posix()}" for path in (tree / folder).rglob("*.py")}
    assert f"heliograph/{folder}/__init__.py" in modules
    assert modules <= wheel.keys()


def test_the_sdist_gives_the_same_wheel(sdist: Path, wheel: dict[str, bytes], tmp_path: Path) -> None:
    shutil.unpack_archive(sdist, tmp_path)
    [source] = tmp_path.iterdir()
    assert source.name == sdist.name.removesuffix(".tar.gz")
    again = files(build("wheel", source, tmp_path / "wheel"))
    assert {name for name in again if not name.endswith("/RECORD")} == {
        name for name in wheel if not name.endswith("/RECORD")
    }
    assert all(again[name] == content for name, content in wheel.items() if name.startswith("heliograph/"))


def test_both_hold_the_licence(sdist: Path, wheel: dict[str, bytes]) -> None:
    text = (ROOT / "LICENSE").read_bytes()
    assert b"Apache License" in text
    [packed] = [content for name, content in wheel.items() if name.endswith(".dist-info/licenses/LICENSE")]
    assert packed == text
    with tarfile.open(sdist) as archive:
        opened = archive.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/LICENSE")
        assert opened is not None and opened.read() == text


def test_benchmarks_examples_and_docs_go_into_the_sdist_and_not_into_the_wheel(
    sdist: Path, wheel: dict[str, bytes]
) -> None:
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("benchmarks", "docs", "examples"):
        files_of = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert {name for name in files_of if "__pycache__" not in name} - packed == set()
        assert not [name for name in wheel if name.startswith(f"{folder}/")]
    assert {"CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "constraints.txt", "topics.md"} <= packed


def test_the_metadata(metadata: Message, wheel: dict[str, bytes]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Name"] == "heliograph"
    assert metadata["Version"] == project["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert "# Heliograph" in str(metadata.get_payload())
    [entry_points] = [text.decode() for name, text in wheel.items() if name.endswith("entry_points.txt")]
    assert [line for line in entry_points.splitlines() if line] == [
        "[console_scripts]",
        "heliograph = heliograph.cli.main:main",
        "[pytest11]",
        "heliograph.testing.plugin = heliograph.testing.plugin",
    ]


def test_the_extras(metadata: Message) -> None:
    extras = set(metadata.get_all("Provides-Extra", []))
    assert {"train", "demo", "torch", "tensorflow", "sklearn", "kubernetes", "portal", "dev"} <= extras
    assert "torch" in requirements(metadata, "torch")
    assert {"tensorflow", "tensorflow-cpu"} & requirements(metadata, "tensorflow")
    assert "scikit-learn" in requirements(metadata, "sklearn")
    assert requirements(metadata, "kubernetes") == {"aiohttp", "kubernetes"}
    assert requirements(metadata, "portal") == {"nicegui"}
    assert "pytest" in requirements(metadata, "dev")
    assert "pillow" in requirements(metadata, "image")


def test_an_edge_without_training_needs_no_numpy_and_no_framework(metadata: Message) -> None:
    base = requirements(metadata)
    assert "aiomqtt" in base
    assert base & HEAVY == set()
