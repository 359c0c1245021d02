"""What one file holds: its format, checked, and its content as that format's reader tells it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

from heliograph.bus.contract.resources.dataset import Format
from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets import (
    coco_file,
    csv_file,
    label_columns,
    npz_file,
    parquet_file,
    parquet_labels,
    txt_index,
    webdataset_file,
)
from heliograph.edge_agent.datasets.convertible import hint_for_file
from heliograph.edge_agent.datasets.csv_look import Header
from heliograph.edge_agent.datasets.label_counts import LabelCounts
from heliograph.edge_agent.datasets.npy_header import read_header
from heliograph.edge_agent.datasets.source import FORMATS, Source
from heliograph.edge_agent.datasets.unusable import Unusable

ARRAY = "array"
"""Name of the one column of a ``.npy`` file."""


class Survey(Protocol):
    """What was read of a file."""

    @property
    def samples(self) -> int: ...

    @property
    def columns(self) -> dict[str, str]: ...


def survey(source: Source, form: Format, header: Header | None, labels: LabelCounts | None = None) -> Survey:
    """Return what a file holds. Raise Unusable if it is not what its format says.

    Args:
        labels: counts the labels.
    """
    if form == "npz":
        arrays = npz_file.read_arrays(source.open(), source.size)
        if labels is not None:
            label_columns.require_column(labels.column, arrays.columns)
            label_columns.count_arrays(source.open(), source.size, arrays, labels)
        return arrays
    if form == "parquet":
        found = parquet_file.survey(source.open(), source.size)
        if labels is not None and labels.column is not None:
            label_columns.require_column(labels.column, found.columns)
            parquet_labels.count_parquet(str(source.path), labels.column, labels)
        return found
    if form == "npy":
        return read_array(source)
    if form == "webdataset":
        return webdataset_file.read_webdataset(source.open, labels)
    if form == "txt":
        return txt_index.read_index(source.open(), labels)
    if form == "coco":
        return coco_file.read_coco(source.open(), labels)
    seen = label_columns.counting(labels) if labels is not None and labels.column is not None else None
    return csv_file.survey(source.open, header, seen)


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
    if hint := hint_for_file(source.name, source.open().read(12)):
        raise Unusable(hint)
    if magic not in (None, form):
        raise Unusable(f"is a {_named(magic)} file, not {form}; set spec.format: {magic} if it is one")
    if magic is None and form == "npy":
        raise Unusable("is not an .npy file; write it with numpy.save")
    if form is None:
        raise Unusable("is not named as a data file (.csv, .npz, .npy, .parquet, .csv.gz, …); "
                       f"rename it, or set spec.format of its Dataset to {' or '.join(FORMATS)}")  # fmt: skip
    if source.packing and form in ("npz", "parquet"):
        raise Unusable(f"is a {form} in a {source.packing}, packed twice; unpack it")
    if source.packing and form in ("txt", "coco"):
        raise Unusable(f"is packed, and names files beside it; unpack it and name the {form} file")
    if wanted is None and form == "csv" and source.name.lower().endswith(".txt") and not source.packing:
        return "txt" if txt_index.looks_like_index(source.open(), source.path.parent) else "csv"
    return cast(Format, form)


def content_of(source: Source, form: Format, header: Header | None, labels: LabelCounts | None) -> dict[str, Any]:
    """Return what a file holds, as JSON has it."""
    found = survey(source, form, header, labels)
    content: dict[str, Any] = {"form": form, "samples": found.samples, "columns": dict(found.columns)}
    if isinstance(found, (txt_index.TxtIndex, coco_file.Coco)):
        content["files"] = found.files
    if labels is not None:
        content["labels"] = labels.counts
    return content


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


@contextmanager
def told_as_unusable() -> Iterator[None]:
    """Turn the error of a file that cannot be read into a sentence."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise Unusable(reason(error)) from None


def _named(form: Format | None) -> str:
    return {"npz": "zip", "npy": ".npy"}.get(form or "", form or "")

