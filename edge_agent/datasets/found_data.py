"""What a data set holds in all its files: a file, the files that an index names, or a directory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from heliograph.bus.contract.resources.dataset import Format
from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets import folder, npz_file
from heliograph.edge_agent.datasets.coco_file import directory_of_images
from heliograph.edge_agent.datasets.file_forms import ARRAY, checked_format, content_of, read_array, told_as_unusable
from heliograph.edge_agent.datasets.image_check import check_image
from heliograph.edge_agent.datasets.label_columns import require_column
from heliograph.edge_agent.datasets.manifest import FileEntry
from heliograph.edge_agent.datasets.npy_header import ArrayHeader
from heliograph.edge_agent.datasets.reading import Reading, named
from heliograph.edge_agent.datasets.source import Source, open_source
from heliograph.edge_agent.datasets.unusable import Unusable

IMAGE = "image"


@dataclass(frozen=True)
class FoundData:
    """The samples of a data set, and its files.

    Attributes:
        digest: SHA-256 of the file; of a directory that of the lines ``SHA-256, two spaces, path`` of its files.
        labels: number of samples of each label, where they were counted.
        grows_by_rows: whether more rows in a file are more samples; in a directory of arrays a file is a column.
        rewritten: path of the list of all other files that is written anew where it grows; empty: there is none.
    """

    form: Format
    samples: int
    columns: Mapping[str, str]
    digest: str
    entries: list[FileEntry]
    labels: Mapping[str, int] = field(default_factory=dict)
    grows_by_rows: bool = True
    rewritten: str = ""

    @property
    def size(self) -> int:
        return sum(each.size for each in self.entries)


def read_file(reading: Reading, path: Path) -> FoundData:
    """Return what a file holds, with the files that it names. Raise Unusable, OSError, Interrupted."""
    entry, content = reading.file(path, path.name, reading.read_as.key, partial(_content, reading))
    form, entries = cast(Format, content["form"]), [entry]
    require_column(reading.read_as.label if form in ("csv", "npz", "parquet") else None, content["columns"])
    names: list[str] = content.get("files", [])
    if names:
        base = path.parent if form == "txt" else directory_of_images(path, names[0])
        if reading.read_as.roots and not folder.leads_below(base, reading.read_as.roots):
            raise Unusable(f"names images in {shorten(str(base))}, which no root of this agent holds; "
                           "move the json to its images")  # fmt: skip
        entries += _referenced(reading, base, names)
    return FoundData(form, entry.samples, content["columns"], entry.sha256, entries, content.get("labels", {}),
                     rewritten=entry.path if form == "coco" else "")  # fmt: skip


def read_directory(reading: Reading, path: Path) -> FoundData:
    """Return what a directory holds. Raise Unusable, OSError, Interrupted."""
    found = folder.read_folder(path, reading.read_as.roots)
    wanted = reading.read_as.format
    form: Format = "images" if isinstance(found, folder.ImageFolder) else (
        "coco" if isinstance(found, folder.CocoFolder) else found.format)  # fmt: skip
    if wanted not in (None, form):
        raise Unusable(f"is a directory of {form} files, not {wanted}; set spec.format: {form} if they are that")
    if isinstance(found, folder.CocoFolder):
        return read_file(reading, path / found.file)
    if isinstance(found, folder.ImageFolder):
        return _read_images(reading, path, found)
    return _read_shards(reading, path, found)


def _read_images(reading: Reading, path: Path, found: folder.ImageFolder) -> FoundData:
    names = list(found.files())
    reading.files_in_all = len(names)
    entries = [_image(reading, path, name) for name in names]
    labels = {name: len(images) for name, images in found.images.items()} if reading.read_as.counts_labels else {}
    return FoundData("images", found.samples, found.columns, _digest(entries), entries, labels)


def _read_shards(reading: Reading, path: Path, found: folder.Shards) -> FoundData:
    reading.files_in_all = len(found.files)
    entries: list[FileEntry] = []
    first: Mapping[str, str] | None = None
    arrays: dict[str, ArrayHeader] = {}
    labels: Counter[str] = Counter()
    for name in found.files:
        try:
            entry, content = reading.file(path / name, name, f"{found.format}/{reading.read_as.key}",
                                          partial(_shard, reading, found.format, arrays))  # fmt: skip
        except Unusable as error:
            raise named(name, error) from None
        entries.append(entry)
        if found.format == "npy":
            continue
        first = first if first is not None else content["columns"]
        if found.format != "webdataset" and list(content["columns"]) != list(first):
            raise Unusable(f"holds files of different columns, {shorten(found.files[0])} and {shorten(name)}; "
                           "give all the same columns in the same order")  # fmt: skip
        labels.update(content.get("labels", {}))
    if found.format == "npy":
        for name in found.files:
            if Path(name).stem not in arrays:  # known from an earlier pass: its header alone is read again
                with open_source(path / name) as source:
                    arrays[Path(name).stem] = read_array(source).headers[ARRAY]
        together = npz_file.fit_together(arrays)
        return FoundData("npy", together.samples, together.columns, _digest(entries), entries, grows_by_rows=False)
    require_column(reading.read_as.label if found.format in ("csv", "npz", "parquet") else None, first or {})
    return FoundData(found.format, sum(each.samples for each in entries), first or {}, _digest(entries), entries,
                     dict(sorted(labels.items())))  # fmt: skip


def _content(reading: Reading, source: Source) -> dict[str, Any]:
    read_as = reading.read_as
    return content_of(source, checked_format(source, read_as.format), read_as.header, read_as.labels())


def _shard(reading: Reading, form: Format, arrays: dict[str, ArrayHeader], source: Source) -> dict[str, Any]:
    if form == "npy":
        arrays[source.path.stem] = read_array(source).headers[ARRAY]
        return {}
    if form in ("txt", "coco"):
        raise Unusable(f"is an index of files; name it, not its directory, as a data set of format {form}")
    read_as = reading.read_as
    return content_of(source, checked_format(source, form), read_as.header, read_as.labels())


def _referenced(reading: Reading, base: Path, names: list[str]) -> Iterator[FileEntry]:
    """Yield the entries of the files that an index names."""
    reading.files_in_all, roots = len(names) + 1, reading.read_as.roots
    for name in names:
        if roots and not folder.leads_below(base / name, roots):
            raise Unusable(f"has {shorten(name)}, a link that leads away; replace it by the file")
        yield _image(reading, base, name, samples=0)


def _image(reading: Reading, base: Path, name: str, samples: int = 1) -> FileEntry:
    """Return the entry of a file that is a sample, checked where it is named as an image.

    Args:
        samples: rows that it counts for; none where an index's line does.
    """
    is_image = Path(name).suffix.lower() in folder.IMAGES

    def check(source: Source) -> dict[str, Any]:
        if is_image:
            check_image(source.file, source.size)
        return {"samples": samples}

    try:
        with told_as_unusable():
            return reading.file(base / name, name, f"{IMAGE}/{samples}", check)[0]
    except Unusable as error:
        raise named(name, error) from None


def _digest(entries: Iterable[FileEntry]) -> str:
    whole = hashlib.sha256()
    for each in entries:
        whole.update(f"{each.sha256}  {each.path}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()
