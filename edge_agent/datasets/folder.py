"""Directories as data sets: images by class, files of one form that hold the rows, or COCO's json and images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heliograph.bus.contract.resources.dataset import Format
from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.convertible import hint_for_directory
from heliograph.edge_agent.datasets.npz_file import Use
from heliograph.edge_agent.datasets.source import SUFFIXES
from heliograph.edge_agent.datasets.unusable import Unusable

IMAGES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif", ".heic")
)
MAX_FILES = 2_000_000
MAX_DEPTH = 8
USES: dict[str, Use] = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class ImageFolder:
    """Images by class.

    Attributes:
        images: paths below the directory, in the order of their names, by the class: the directory's name. A class may
            have none: an edge has a directory for the classes that only others have, too.
        uses: names of the directories ``train``, ``test`` and so on that hold the classes, with their use; empty where
            the classes lie in the directory itself.
        parts: as ``images``, for each such directory.
    """

    images: dict[str, list[str]]
    uses: dict[str, Use] = field(default_factory=dict)
    parts: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        return sum(map(len, self.images.values()))

    @property
    def columns(self) -> dict[str, str]:
        return {"image": "image", "class": f"text, {len(self.images)} directories"}

    def files(self) -> Iterator[str]:
        """Yield the path of each image below the directory, those of every use."""
        for part, classes in (self.parts or {"": self.images}).items():
            for paths in classes.values():
                yield from (f"{part}/{path}" if part else path for path in paths)


@dataclass(frozen=True)
class Shards:
    """Files of one format: the rows of all, in the order of the files' names; of ``npy`` a column each."""

    format: Format
    files: list[str]


@dataclass(frozen=True)
class CocoFolder:
    """The name of the COCO json that lies in a directory beside its images."""

    file: str


def read_folder(path: Path, roots: Sequence[Path] = ()) -> ImageFolder | Shards | CocoFolder:
    """Return what a directory holds. Hidden files, notes (README, ``.md``, ``_SUCCESS``) are passed over.

    Args:
        roots: directories below which every link must lead; without any, links may lead anywhere.

    Raise Unusable if it holds none of them, and OSError where it cannot be read.
    """
    directories, files = _listed(path, roots)
    if hint := hint_for_directory(files):
        raise Unusable(hint)
    documents = [name for name in files if name.lower().endswith(".json")]
    if len(documents) == 1 and all(Path(name).suffix.lower() in IMAGES for name in files if name != documents[0]):
        return CocoFolder(documents[0])
    if files and not directories:
        return _shards(files)
    if not directories:
        raise Unusable("is a directory without files; write the data set there")
    if files:
        raise Unusable(f"holds directories beside files, {shorten(directories[0])} beside {shorten(files[0])}; "
                       "name a directory of one kind")  # fmt: skip
    uses = {name: USES[name.lower()] for name in directories if name.lower() in USES}
    if uses and len(uses) == len(directories) and "train" in uses.values():
        parts = {name: _classes(path / name, _listed(path / name, roots), roots) for name in uses}
        train = next(name for name, use in uses.items() if use == "train")
        return ImageFolder(parts[train], uses, parts)
    return ImageFolder(_classes(path, (directories, files), roots))


def _classes(path: Path, listed: tuple[list[str], list[str]], roots: Sequence[Path]) -> dict[str, list[str]]:
    directories, files = listed
    if files or not directories:
        raise Unusable(f"holds images without a directory for each class, in {path.name}; "
                       "put the images of each class into a directory of the class's name")  # fmt: skip
    found: dict[str, list[str]] = {}
    count = 0
    for name in directories:
        found[name] = []
        for each in _images(path, name, roots):
            found[name].append(each)
            if (count := count + 1) > MAX_FILES:
                raise Unusable(f"holds more than {MAX_FILES} files; pack them into fewer, larger ones")
    if not count:
        raise Unusable(f"holds directories without images, {shorten(directories[0])} among them; fill them")
    return found


def _images(path: Path, below: str, roots: Sequence[Path], depth: int = 0) -> Iterator[str]:
    """Yield the images in a class's directory and the directories below it."""
    if depth > MAX_DEPTH:
        raise Unusable(f"is nested more than {MAX_DEPTH} directories deep, at {shorten(below)}; flatten it")
    directories, files = _listed(path / below, roots)
    if hint := hint_for_directory(files):
        raise Unusable(f"has {shorten(below)}, which {hint}")
    for name in files:
        if Path(name).suffix.lower() not in IMAGES:
            raise Unusable(f"holds {shorten(f'{below}/{name}')}, which is named as no image "
                           f"({', '.join(sorted(IMAGES)[:6])}, …); take it away")  # fmt: skip
        yield f"{below}/{name}"
    for name in directories:
        yield from _images(path, f"{below}/{name}", roots, depth + 1)


def _shards(files: list[str]) -> Shards:
    formats = {name: _format(name) for name in files}
    if all(Path(name).suffix.lower() in IMAGES for name in files):
        raise Unusable("holds images without a directory for each class; "
                       "put the images of each class into a directory of the class's name")  # fmt: skip
    other = next((name for name, each in formats.items() if each is None), None)
    if other is not None:
        raise Unusable(f"holds {shorten(other)}, which is named as no data file (.csv, .parquet, .npz, .npy); "
                       "take it away")  # fmt: skip
    found = {each for each in formats.values() if each is not None}
    if len(found) > 1:
        raise Unusable(f"holds files of several formats, {' and '.join(sorted(found))}; name a directory of one")
    return Shards(found.pop(), files)


def _format(name: str) -> Format | None:
    path = Path(name)
    return SUFFIXES.get(Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower())


def _listed(path: Path, roots: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Return the names of directories and files, sorted. Raise Unusable for pipes, and for links that lead away."""
    directories, files = [], []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith((".", "_", "README", "LICENSE")) or entry.name.endswith((".md", ".crc")):
                continue
            if entry.is_symlink() and roots and not leads_below(Path(entry.path), roots):
                raise Unusable(f"holds a link that leads away, {shorten(entry.name)}; replace it by the file")
            if entry.is_dir():
                directories.append(entry.name)
            elif entry.is_file():
                files.append(entry.name)
            else:
                raise Unusable(f"holds {shorten(entry.name)}, which is no regular file; take it away")
            if len(files) > MAX_FILES:
                raise Unusable(f"holds more than {MAX_FILES} files; pack them into fewer, larger ones")
    return sorted(directories), sorted(files)


def leads_below(link: Path, roots: Sequence[Path]) -> bool:
    """Return whether a path, its links followed, lies below a root."""
    try:
        target = link.resolve()
    except (OSError, RuntimeError):
        return False
    return any(target.is_relative_to(root.resolve()) for root in roots)
