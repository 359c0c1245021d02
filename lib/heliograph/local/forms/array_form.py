"""Arrays with a common first axis: an npz, a ``.npy``, a directory of ``.npy``. Rows pass through in blocks."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from heliograph.core.errors import HeliographError
from heliograph.edge_agent.datasets.file_forms import ARRAY, read_array
from heliograph.edge_agent.datasets.npy_header import MAGIC, ArrayHeader
from heliograph.edge_agent.datasets.npz_file import Arrays, fit_together, open_zip, read_arrays, stem_of
from heliograph.edge_agent.datasets.source import open_source
from heliograph.local.forms.csv_form import ending_of, written_like
from heliograph.local.forms.form import Request

if TYPE_CHECKING:
    import numpy as np

    from heliograph.local.forms.form import Owners
    from heliograph.local.forms.labels import Column

    Rows = np.ndarray[Any, Any]

BLOCK = 4 << 20
"""Bytes of rows in memory at once."""


class ArrayFiles(Protocol):
    """Where arrays lie by name, and where those of a part go."""

    arrays: Arrays
    ending: str

    def read(self, name: str) -> Any:
        """Return a context manager that yields the stream of an array, its header first."""
        ...

    def write(self, target: Path) -> Any:
        """Return a context manager that yields ``create(name, header)``: a context manager of the stream to write."""
        ...


class ArrayForm:
    """See ``Form``."""

    def __init__(self, files: ArrayFiles, request: Request) -> None:
        self._files = files
        self._request = request
        self._arrays = files.arrays
        self._done = 0
        self.ending = files.ending
        self.samples = files.arrays.samples
        uses = set(files.arrays.uses.values())
        self._test_use = "test" if "test" in uses else "validation"
        self.has_test = len(uses) > 1
        kept = ", ".join(name for name, use in files.arrays.uses.items() if use != "train")
        self.said = f"a training part, and {kept} for the test" if self.has_test else ""
        headers = files.arrays.headers
        self.columns: Sequence[str] = [name for name, header in headers.items() if self._may_label(name, header)]
        for name, column in request.columns(self.columns):
            self._collect(name, column)

    def write(self, owners: Owners, targets: Sequence[Path]) -> None:
        import numpy as np

        counts = np.bincount(owners[owners >= 0], minlength=len(targets)).tolist()
        uses = self._arrays.uses
        with ExitStack() as stack:
            creates = [stack.enter_context(self._files.write(target)) for target in targets]
            for name, header in self._arrays.headers.items():
                train = uses.get(name, "train") == "train"
                lengths = counts if train else [header.samples] * len(targets)
                with ExitStack() as members:
                    streams = [
                        members.enter_context(create(name, header, length))
                        for create, length in zip(creates, lengths, strict=True)
                    ]
                    if train:
                        self._deal(name, header, owners, streams)
                    else:
                        self._copy(name, header, streams)

    def write_test(self, target: Path) -> None:
        uses, headers = self._arrays.uses, self._arrays.headers
        tests = {stem_of(name): name for name, use in uses.items() if use == self._test_use}
        with self._files.write(target) as create:
            for name, use in uses.items():
                source = tests.get(stem_of(name)) if use == "train" else name
                if source is not None:
                    with create(name, headers[source], headers[source].samples) as stream:
                        self._copy(source, headers[source], [stream])

    def _deal(self, name: str, header: ArrayHeader, owners: Owners, streams: Sequence[BinaryIO]) -> None:
        """Give each stream its rows. The columns of an array in Fortran's order pass one after the other."""
        import numpy as np

        with self._files.read(name) as stream:
            for start, rows in self._blocks(stream, header):
                mine = owners[start : start + len(rows)]
                order = np.argsort(mine, kind="stable")
                cuts = np.searchsorted(mine[order], np.arange(len(streams) + 1))
                sorted_rows = rows[order]
                for place, target in enumerate(streams):
                    if cuts[place] < cuts[place + 1]:
                        target.write(sorted_rows[cuts[place] : cuts[place + 1]].tobytes())

    def _copy(self, name: str, header: ArrayHeader, streams: Sequence[BinaryIO]) -> None:
        with self._files.read(name) as stream:
            for _, rows in self._blocks(stream, header):
                for target in streams:
                    target.write(rows.tobytes())

    def _blocks(self, stream: BinaryIO, header: ArrayHeader) -> Iterator[tuple[int, Rows]]:
        """Yield the number of the first row, and rows as bytes: uint8, shape (rows, bytes of a row)."""
        import numpy as np

        _exactly(stream, header.offset)
        if header.fortran and len(header.shape) > 1:
            passes, width = prod(header.shape[1:]), header.size // max(1, prod(header.shape))
            count = header.samples
        else:
            passes, width = 1, header.size // header.samples
            count = max(1, BLOCK // max(1, width))
        for _ in range(passes):
            for start in range(0, header.samples, count):
                number = min(count, header.samples - start)
                data = _exactly(stream, number * width)
                self._done += len(data)
                self._request.progress("splitting", self._done)
                yield start, np.frombuffer(data, np.uint8).reshape(number, width)

    def _may_label(self, name: str, header: ArrayHeader) -> bool:
        """Return whether an array holds one value for each training sample, or a score for each class."""
        return self._arrays.uses.get(name, "train") == "train" and len(header.shape) <= 2 and "{" not in header.dtype

    def _collect(self, name: str, column: Column) -> None:
        """Collect labels: of shape (n,), (n, 1), or one-hot, (n, classes)."""
        import numpy as np

        header = self._arrays.headers[name]
        dtype = np.dtype(header.descr)
        parts = []
        with self._files.read(name) as stream:
            parts = [rows.reshape(-1) for _, rows in self._blocks(stream, header)]
        flat = np.concatenate(parts).view(dtype)
        values = flat.reshape(header.shape, order="F" if header.fortran else "C")
        if values.ndim == 2 and values.shape[1] > 1:
            if not (np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all()):
                if self._request.forget(column):
                    return
                raise HeliographError(
                    f"{self._request.source}: {name} has shape {header.shape}, expected a class for each sample: shape "
                    f"({header.samples},) or ({header.samples}, 1), or one-hot; name another array with --label"
                )
            values = values.argmax(1)
        column.add(values.reshape(-1).tolist())


class NpzFiles:
    """An npz; its parts are compressed as it is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_source(path) as source:
            self.arrays = read_arrays(source.open(), source.size)
            self.ending = path.suffix or ".npz"
            kinds = {each.compress_type for each in open_zip(source.open(), source.size).infolist()}
        self._compression = zipfile.ZIP_DEFLATED if zipfile.ZIP_DEFLATED in kinds else zipfile.ZIP_STORED

    @contextmanager
    def read(self, name: str) -> Iterator[BinaryIO]:
        with open_source(self._path) as source, open_zip(source.open(), source.size) as archive:
            with archive.open(f"{name}.npy") as stream:
                yield stream  # type: ignore[misc]

    @contextmanager
    def write(self, target: Path) -> Iterator[Any]:
        with zipfile.ZipFile(target, "w", self._compression) as archive:

            @contextmanager
            def create(name: str, header: ArrayHeader, samples: int) -> Iterator[BinaryIO]:
                info = zipfile.ZipInfo(f"{name}.npy")
                info.compress_type = self._compression
                with archive.open(info, "w", force_zip64=True) as stream:
                    stream.write(header_bytes(header, samples))
                    yield stream  # type: ignore[misc]

            yield create


class NpyFile:
    """One array, which may be packed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_source(path) as source:
            self.arrays = read_array(source)
            self.ending = ending_of(source)

    @contextmanager
    def read(self, name: str) -> Iterator[BinaryIO]:
        with open_source(self._path) as source:
            yield source.open()

    @contextmanager
    def write(self, target: Path) -> Iterator[Any]:
        with open_source(self._path) as source:

            @contextmanager
            def create(name: str, header: ArrayHeader, samples: int) -> Iterator[BinaryIO]:
                with written_like(source, target) as stream:
                    stream.write(header_bytes(header, samples))
                    yield stream

            yield create


class NpyFolder:
    """A directory of ``.npy`` files, an array each."""

    ending = ""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._parts = {Path(name).stem: (name, NpyFile(path / name)) for name in names}
        self.arrays = fit_together({stem: each.arrays.headers[ARRAY] for stem, (_, each) in self._parts.items()})

    def read(self, name: str) -> Any:
        return self._parts[name][1].read(ARRAY)

    @contextmanager
    def write(self, target: Path) -> Iterator[Any]:
        target.mkdir()

        @contextmanager
        def create(name: str, header: ArrayHeader, samples: int) -> Iterator[BinaryIO]:
            file, each = self._parts[name]
            with each.write(target / file) as one, one(ARRAY, header, samples) as stream:
                yield stream

        yield create


def header_bytes(header: ArrayHeader, samples: int) -> bytes:
    """Return a ``.npy`` header for as many samples of the same kind, in the same order of axes."""
    shape = (samples, *header.shape[1:])
    text = f"{{'descr': {header.descr!r}, 'fortran_order': {header.fortran}, 'shape': {shape!r}, }}"
    encoding, version = ("latin-1", 2) if text.isascii() else ("utf-8", 3)
    body = text.encode(encoding)
    body += b" " * (-(12 + len(body) + 1) % 64) + b"\n"
    return MAGIC + bytes((version, 0)) + len(body).to_bytes(4, "little") + body


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    while len(data) < count and (more := stream.read(count - len(data))):
        data += more
    if len(data) < count:
        raise HeliographError("the file became shorter while it was read; write it under another name first")
    return data
