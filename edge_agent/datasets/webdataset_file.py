"""A webdataset: a tar in which files of one name, with different endings, are one sample.

Format: https://github.com/webdataset/webdataset
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.distinct import Distinct, first_repeated
from heliograph.edge_agent.datasets.label_counts import LabelCounts
from heliograph.edge_agent.datasets.tar_members import Member, members
from heliograph.edge_agent.datasets.unusable import Unusable

CLASS = "cls"
"""Ending of the files with a sample's class."""
MAX_COLUMNS = 256
_IMAGES = frozenset(("jpg", "jpeg", "png", "ppm", "pgm", "pbm", "pnm", "webp"))
_TEXT = frozenset(("txt", "text", "transcript", "cls", "cls2", "index", "inx", "id", "count"))


@dataclass(frozen=True)
class WebDataset:
    """Samples and columns; a column is the ending of a file that some sample has."""

    samples: int
    columns: dict[str, str] = field(default_factory=dict)


def read_webdataset(open: Callable[[], BinaryIO], labels: LabelCounts | None = None) -> WebDataset:
    """Read a tar from its start to its end. Raise Unusable if it is none, or a sample comes twice in it.

    Args:
        open: opens the tar from its start.
        labels: counts the contents of the ``.cls`` files.
    """
    columns: dict[str, str] = {}
    samples, present, endings = 0, "", set[str]()
    keys = Distinct()
    for key, ending, member in files(open()):
        if key != present:
            samples, present, endings = samples + 1, key, set()
            keys.add(key.encode("utf-8", "replace"))
        if ending in endings:
            raise Unusable(f"holds {shorten(member.name)} twice; a file's name and ending tell its sample and column")
        endings.add(ending)
        if ending not in columns and len(columns) < MAX_COLUMNS:
            columns[ending] = _kind(ending)
        if labels is not None and ending == CLASS:
            labels.add(member.content.read(256).decode("utf-8", "replace").strip())
    if not samples:
        raise Unusable("is a tar without samples; write the data set again")
    if twice := keys.repeated():
        names = _keys(open())
        if (name := first_repeated(names, twice)) is not None:
            raise Unusable(f"holds sample {shorten(name.decode('utf-8', 'replace'))} twice, with others between; "
                           "give each sample a name of its own and pack its files one after the other")  # fmt: skip
    return WebDataset(samples, columns)


def _keys(stream: BinaryIO) -> Iterator[bytes]:
    present = ""
    for key, _, _ in files(stream):
        if key != present:
            present = key
            yield key.encode("utf-8", "replace")


def files(stream: BinaryIO) -> Iterator[tuple[str, str, Member]]:
    """Yield sample, ending and member of each file. Hidden files, and files without an ending, belong to no sample."""
    for member in members(stream):
        directory, slash, name = member.name.rpartition("/")
        stem, dot, ending = name.partition(".")
        if not member.directory and stem and dot and not stem.startswith("_"):
            yield f"{directory}{slash}{stem}", ending.lower(), member


def _kind(ending: str) -> str:
    last = ending.rpartition(".")[2]
    if last in _IMAGES:
        return "image"
    return "text" if last in _TEXT else last
