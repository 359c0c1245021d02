"""The form of a file or directory, opened with the agent's own readers: what they refuse is refused at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from heliograph.core.errors import HeliographError
from heliograph.edge_agent.datasets.file_forms import checked_format, reason
from heliograph.edge_agent.datasets.folder import CocoFolder, ImageFolder, read_folder
from heliograph.edge_agent.datasets.source import open_source
from heliograph.edge_agent.datasets.unusable import Unusable
from heliograph.local.forms.array_form import ArrayForm, NpyFile, NpyFolder, NpzFiles
from heliograph.local.forms.csv_form import CsvForm
from heliograph.local.forms.folder_form import ImageForm, ShardsForm
from heliograph.local.forms.form import Form, Request
from heliograph.local.forms.index_form import CocoForm, TxtForm
from heliograph.local.forms.parquet_form import ParquetForm
from heliograph.local.forms.webdataset_form import WebDatasetForm

_FILES: dict[str, Callable[[Path, Request], Form]] = {
    "csv": CsvForm, "parquet": ParquetForm, "txt": TxtForm, "coco": CocoForm, "webdataset": WebDatasetForm,
}  # fmt: skip


def open_form(path: Path, request: Request) -> Form:
    """Return the form of a data set.

    Raise HeliographError with the agent's sentence where an agent would refuse it.
    """
    try:
        if not path.is_dir():
            return _open_file(path, request)
        found = read_folder(path)
        if isinstance(found, ImageFolder):
            return ImageForm(path, found, request)
        if isinstance(found, CocoFolder):
            return CocoForm(path / found.file, request)
        if found.format == "npy":
            return ArrayForm(NpyFolder(path, found.files), request)
        return ShardsForm(path, found, request, _open_file)
    except Unusable as error:
        raise HeliographError(f"{path} {error}") from None
    except (OSError, ValueError) as error:
        raise HeliographError(f"{path} {reason(error)}") from None


def _open_file(path: Path, request: Request) -> Form:
    try:
        with open_source(path) as source:
            form = checked_format(source, None)
        if form == "npz":
            return ArrayForm(NpzFiles(path), request)
        if form == "npy":
            return ArrayForm(NpyFile(path), request)
        return _FILES[form](path, request)
    except Unusable as error:
        raise HeliographError(f"{path} {error}") from None
