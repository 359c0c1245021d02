"""The index of a data set: its samples, columns, digest and size, or one sentence that says what to do."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from heliograph.bus.contract.resources.dataset import DatasetIndex
from heliograph.core.errors import shorten
from heliograph.core.text import encodable
from heliograph.edge_agent.datasets import csv_file, folder, npz_file, parquet_file
from heliograph.edge_agent.datasets.csv_look import Header
from heliograph.edge_agent.datasets.npy_header import read_header
from heliograph.edge_agent.datasets.source import FORMATS, Format, Progress, Source, open_source
from heliograph.edge_agent.datasets.unusable import Unusable

MAX_TEXT = 128 * 1024
"""Characters of all column names and types that are told: the index travels inside the agent's report."""
ARRAY = "array"
"""Name of the one column of a ``.npy`` file."""


class Survey(Protocol):
    """What was read of a file."""

    @property
    def samples(self) -> int: ...

    @property
    def columns(self) -> dict[str, str]: ...


def index(
    name: str,
    path: Path,
    format: str | None = None,
    header: Header | None = None,
    roots: Sequence[Path] = (),
    progress: Progress | None = None,
) -> DatasetIndex:
    """Return samples, columns, SHA-256 and size of a file or directory. Read all of it: call it in a thread.

    Args:
        name: the data set's name, a DNS label.
        path: a local file or directory, already resolved below an allowed root.
        format: one of FORMATS; None: the content and the ending decide.
        header: whether a csv's first line names its columns; None: its cells decide.
        roots: directories below which links in a directory must lead; without any they may lead anywhere.
        progress: called with the number of bytes read, of a large file.

    Never raise for an unusable file: the index then has only ``error``. Columns are dtype and shape of one sample,
    ``float32[64]``; in a csv ``number`` or ``text``, as its first 10,000 rows tell.
    """
    try:
        if format is not None and format not in FORMATS:
            raise Unusable(f"has spec.format {shorten(format)!r}; expected {' or '.join(FORMATS)}")
        if path.is_dir():
            return _index_folder(name, path, format, header, roots, progress)
        with open_source(path, progress) as source:
            form = checked_format(source, format)
            before = os.fstat(source.file.fileno())
            found = survey(source, form, header)
            source.file.seek(0)
            digest = hashlib.file_digest(source.file, "sha256").hexdigest()  # type: ignore[arg-type]
            after = os.fstat(source.file.fileno())
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise Unusable("changed while it was read; write it under another name and rename it when it is whole")
    except Unusable as error:
        return _failed(name, f"{path} {error}")
    except (OSError, ValueError) as error:
        return _failed(name, f"{path} {reason(error)}")
    return DatasetIndex(name=name, samples=found.samples, columns=_told(found.columns), digest=digest, format=form,
                        size=before.st_size)  # fmt: skip


def survey(source: Source, form: Format, header: Header | None) -> Survey:
    """Return what a file holds. Raise Unusable if it is not what its format says."""
    if form == "npz":
        return npz_file.read_arrays(source.open(), source.size)
    if form == "parquet":
        return parquet_file.survey(source.open(), source.size)
    if form == "npy":
        return read_array(source)
    return csv_file.survey(source.open, header)


def read_array(source: Source) -> npz_file.Arrays:
    """Return the one array of a ``.npy`` file."""
    size = source.content_size
    if source.packing == "gz":  # its length is told nowhere that can be trusted
        stream, size = source.open(), 0
        while data := stream.read(1 << 20):
            size += len(data)
    return npz_file.fit_together({ARRAY: read_header(source.open(), size, shorten(source.name))})


def checked_format(source: Source, wanted: str | None) -> Format:
    """Return the format of a file, the wanted one where its content allows. Raise Unusable where it does not."""
    magic, form = source.magic, wanted or source.format
    if form == "images":
        raise Unusable("is a file; spec.format images takes a directory")
    if magic not in (None, form):
        raise Unusable(f"is a {_named(magic)} file, not {form}; set spec.format: {magic} if it is one")
    if magic is None and form == "npy":
        raise Unusable("is not an .npy file; write it with numpy.save")
    if form is None:
        raise Unusable("is not named as a data file (.csv, .npz, .npy, .parquet, .csv.gz, …); "
                       f"rename it, or set spec.format of its Dataset to {' or '.join(FORMATS)}")  # fmt: skip
    if source.packing and form in ("npz", "parquet"):
        raise Unusable(f"is a {form} in a {source.packing}, packed twice; unpack it")
    return cast(Format, form)


def reason(error: Exception) -> str:
    """Return why a path cannot be read, for people."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return "does not exist on this node; put the file there or correct spec.url"
        case PermissionError():
            return "cannot be read by the agent's user; give it read permission"
        case OSError():
            return f"cannot be read: {error.strerror or error}"
    return f"is no usable path: {shorten(str(error))}"


def _index_folder(
    name: str, path: Path, format: str | None, header: Header | None, roots: Sequence[Path], progress: Progress | None
) -> DatasetIndex:
    """Index a directory. Its digest is that of the lines ``SHA-256, two spaces, name`` of its files, as sha256sum."""
    found = folder.read_folder(path, roots)
    form: Format = "images" if isinstance(found, folder.ImageFolder) else found.format
    if format not in (None, form):
        raise Unusable(f"is a directory of {form} files, not {format}; set spec.format: {form} if they are that")
    files = found.files() if isinstance(found, folder.ImageFolder) else found.files
    surveys: list[Survey] = []
    arrays = {}
    whole, size, done = hashlib.sha256(), 0, 0

    def advanced(read: int) -> None:
        if progress is not None:
            progress(done + read)

    for each in files:
        done = size
        try:
            with open_source(path / each, advanced) as source:
                if form == "npy":
                    one = survey(source, form, header)
                    assert isinstance(one, npz_file.Arrays)
                    arrays[Path(each).stem] = one.headers[ARRAY]
                elif form != "images":
                    surveys.append(survey(source, checked_format(source, form), header))
                source.file.seek(0)
                digest = hashlib.file_digest(source.file, "sha256").hexdigest()  # type: ignore[arg-type]
                whole.update(f"{digest}  {each}\n".encode("utf-8", "surrogateescape"))
                size += source.size
        except Unusable as error:
            raise Unusable(f"has {shorten(each)}, which {error}") from None
    if isinstance(found, folder.ImageFolder):
        samples, columns = found.samples, found.columns
    elif form == "npy":
        together = npz_file.fit_together(arrays)
        samples, columns = together.samples, together.columns
    else:
        samples, columns = sum(each.samples for each in surveys), alike(dict(zip(files, surveys, strict=True)))
    return DatasetIndex(name=name, samples=samples, columns=_told(columns), digest=whole.hexdigest(), format=form,
                        size=size)  # fmt: skip


def alike(surveys: dict[str, Survey]) -> dict[str, str]:
    """Return the columns of files that hold the rows of one data set. Raise Unusable if their names differ."""
    first, *rest = surveys
    for each in rest:
        if list(surveys[each].columns) != list(surveys[first].columns):
            raise Unusable(f"holds files of different columns, {shorten(first)} and {shorten(each)}; "
                           "give all the same columns in the same order")  # fmt: skip
    return surveys[first].columns


def _told(columns: dict[str, str]) -> dict[str, str]:
    """Return as many columns as the report has room for, and the number of the others."""
    room, told = MAX_TEXT, dict[str, str]()
    for name, kind in columns.items():
        room -= len(name) + len(kind)
        if room < 0:
            told["…"] = f"{len(columns) - len(told)} more columns"
            break
        told[encodable(name)] = kind
    return told


def _failed(name: str, error: str) -> DatasetIndex:
    return DatasetIndex(name=name, error=encodable(error)[:1000])


def _named(form: Format | None) -> str:
    return {"npz": "zip", "npy": ".npy"}.get(form or "", form or "")
