"""A csv, read and written in blocks: memory does not grow with the file."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from heliograph.core.errors import HeliographError
from heliograph.edge_agent.datasets import csv_file
from heliograph.edge_agent.datasets.source import Progress, Source, open_source
from heliograph.local.forms.form import Request

if TYPE_CHECKING:
    from heliograph.local.forms.form import Owners


class CsvForm:
    """See ``Form``. The bytes of a row are copied as they are."""

    has_test = False

    def __init__(self, path: Path, request: Request) -> None:
        self._path = path
        self._request = request
        with open_source(path, self._told("reading")) as source:
            look = csv_file.look_at(source.open(), request.header)
            wanted = [(look.names.index(name), column) for name, column in request.columns(look.names)]

            def collect(block: csv_file.Block) -> None:
                for place, column in wanted:
                    column.add(block.column(place))

            found = csv_file.survey(source.open, request.header, collect)
            self.ending = ending_of(source)
        self._look = look
        self.samples = found.samples
        self.columns: Sequence[str] = look.names
        self.said = f"{found.samples:,} rows, {look.sentence()}"
        if not look.header and request.header is None:
            self.said += "; if the first line names them, say --header yes"

    def write(self, owners: Owners, targets: Sequence[Path]) -> None:
        with open_source(self._path, self._told("splitting")) as source, ExitStack() as stack:
            files = [stack.enter_context(written_like(source, target)) for target in targets]
            head = csv_file.preamble(source.open(), self._look)
            for file in files:
                file.write(self._look.mark + self._look.encode(head))
            start = 0
            for block in csv_file.blocks(source.open(), self._look):
                rows: list[list[bytes]] = [[] for _ in range(len(files) + 1)]  # the last for rows of no part: -1
                places = owners[start : start + len(block.rows)].tolist()
                start += len(block.rows)
                for row, place in zip(block.rows, places, strict=False):
                    rows[place].append(row)
                for file, part in zip(files, rows, strict=False):
                    if part:
                        file.write(self._look.encode(b"".join(part)))
        if start != self.samples:
            raise HeliographError(f"{self._path}: changed while it was read; write it under another name first")

    def write_test(self, target: Path) -> None:
        raise NotImplementedError("a csv has no test part of its own")

    def _told(self, step: str) -> Progress:
        return lambda read: self._request.progress(step, read)


def ending_of(source: Source) -> str:
    """Return the end of the names of a file's parts, by which programs tell its format."""
    suffix = source.path.suffix
    if source.packing == "gz" and suffix.lower() == ".gz":
        return source.path.with_suffix("").suffix + suffix
    return suffix or f".{source.format}"


@contextmanager
def written_like(source: Source, target: Path) -> Iterator[BinaryIO]:
    """Yield a new file, packed as the source is."""
    if source.packing == "gz":
        with target.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
            yield packed  # type: ignore[misc]
    elif source.packing == "zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open(zipfile.ZipInfo(source.name), "w", force_zip64=True) as member:
                yield member  # type: ignore[misc]
    else:
        with target.open("wb") as file:
            yield file
