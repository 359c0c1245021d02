"""A parquet file, read and written in batches by arro3 (the extra ``data``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import HeliographError, shorten
from heliograph.edge_agent.datasets import parquet_file
from heliograph.edge_agent.datasets.source import open_source
from heliograph.local.forms.form import Request

if TYPE_CHECKING:
    from heliograph.local.forms.form import Owners

BATCH = 1 << 16
"""Rows in memory at once."""


class ParquetForm:
    """See ``Form``. Each part takes a pass over the source: arro3 writes one file at a time."""

    has_test = False
    said = ""

    def __init__(self, path: Path, request: Request) -> None:
        self._path = path
        self._request = request
        self._done = 0
        with open_source(path) as source:
            found = parquet_file.survey(source.open(), source.size)
        self.ending = path.suffix or ".parquet"
        self.samples = found.samples
        self.columns: Sequence[str] = list(found.columns)
        if wanted := request.columns(self.columns):
            for batch in self._batches("reading"):
                for name, column in wanted:
                    column.add(_plain(batch.column(name)))

    def write(self, owners: Owners, targets: Sequence[Path]) -> None:
        _, core = _arro3()
        for place, target in enumerate(targets):
            schema = self._open().schema

            def rows(place: int = place) -> Iterator[Any]:
                import numpy as np

                start = 0
                for batch in self._batches("splitting"):
                    mine = np.flatnonzero(owners[start : start + batch.num_rows] == place)
                    start += batch.num_rows
                    if len(mine):
                        yield batch.take(core.Array.from_numpy(mine.astype(np.uint64)))

            self._write(core.RecordBatchReader.from_batches(schema, rows()), target)

    def write_test(self, target: Path) -> None:
        raise NotImplementedError("a parquet file has no test part of its own")

    def _open(self) -> Any:
        io, _ = _arro3()
        return self._guarded(lambda: io.read_parquet(self._path, batch_size=BATCH))

    def _write(self, batches: Any, target: Path) -> None:
        io, _ = _arro3()
        self._guarded(lambda: io.write_parquet(batches, target, compression="snappy"))

    def _batches(self, step: str) -> Iterator[Any]:
        reader = self._open()
        while True:
            try:
                batch = self._guarded(lambda: next(reader, None))
            except StopIteration:
                return
            if batch is None:
                return
            self._done += batch.nbytes
            self._request.progress(step, self._done)
            yield batch

    def _guarded(self, work: Any) -> Any:
        """Do work of arro3. Raise HeliographError where it fails: it panics on damaged files."""
        try:
            return work()
        except (KeyboardInterrupt, SystemExit, HeliographError):
            raise
        except BaseException as error:  # PanicException is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise HeliographError(
                f"{self._request.source}: is damaged, or of a kind that arro3 does not read ({shorten(str(error))}); "
                "write it again, with pandas or pyarrow"
            ) from None


def _plain(column: Any) -> list[Any]:
    """Return a column's values as Python has them."""
    return [value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
            for value in column.to_pylist()]  # fmt: skip


def _arro3() -> tuple[Any, Any]:
    try:
        import arro3.core
        import arro3.io
    except ImportError as error:
        raise HeliographError(
            f"{error.name or 'arro3'} is missing, which splits parquet files; "
            "install it with pip install 'heliograph[data]', or save the data as csv or npz"
        ) from None
    return arro3.io, arro3.core
