"""The index of a data set: its samples, columns, version and size, or one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from heliograph.bus.contract.resources.dataset import DatasetIndex, GrownFile
from heliograph.core.errors import shorten
from heliograph.core.text import encodable
from heliograph.edge_agent.datasets.csv_look import Header
from heliograph.edge_agent.datasets.file_forms import reason
from heliograph.edge_agent.datasets.found_data import FoundData, read_directory, read_file
from heliograph.edge_agent.datasets.known_files import KnownFiles, KnownVersion
from heliograph.edge_agent.datasets.manifest import Growth, growth, numbered_growth, version_of
from heliograph.edge_agent.datasets.reading import Advance, ReadAs, Reading
from heliograph.edge_agent.datasets.source import FORMATS
from heliograph.edge_agent.datasets.unusable import Unusable, failed

MAX_TEXT = 128 * 1024
"""Characters of all column names and types that are told: the index travels inside the agent's report."""


def index(
    name: str,
    path: Path,
    format: str | None = None,
    header: Header | None = None,
    roots: Sequence[Path] = (),
    progress: Callable[[Advance], None] | None = None,
    label: str | None = None,
    counts_labels: bool = False,
    known: KnownFiles | None = None,
    interrupted: Callable[[], bool] | None = None,
    recorded: bool = False,
) -> DatasetIndex:
    """Return samples, columns, version and size of a file or directory. It may read all of it: call it in a thread.

    Args:
        name: the data set's name, a DNS label.
        path: a local file or directory, already resolved below an allowed root.
        format: one of FORMATS; None: the content and the ending decide.
        header: whether a csv's first line names its columns; None: its cells decide.
        roots: directories below which links in a directory must lead; without any they may lead anywhere.
        progress: called with what has been read, of a large file or many files.
        label: column or array with the labels, where the form has no usual one.
        counts_labels: whether the index tells how often each label occurs.
        known: what is known of unchanged files and of the data set's versions.
        interrupted: returns whether nobody waits for the index any more.
        recorded: whether the files' names tell which rows are in them, and the oldest rows may go.

    Never raise for an unusable file: the index then has only ``error``. Columns are dtype and shape of one sample,
    ``float32[64]``; in a csv ``number`` or ``text``, as its first 10,000 rows tell. Raise Interrupted; what has been
    read until then is known.
    """
    try:
        if format is not None and format not in FORMATS:
            raise Unusable(f"has spec.format {shorten(format)!r}; expected {' or '.join(FORMATS)}")
        reading = Reading(name, ReadAs(format, header, label, counts_labels, roots), known, progress, interrupted)
        try:
            found = read_directory(reading, path) if path.is_dir() else read_file(reading, path)
        finally:
            if known is not None:
                known.commit()
        version = version_of(found.entries)
    except Unusable as error:
        return failed(name, f"{path} {error}")
    except (OSError, ValueError) as error:
        gone = known.newest(name) if known is not None and isinstance(error, FileNotFoundError) else None
        if gone is not None:
            return failed(name, f"{path} does not exist on this node any more, which held version "
                                f"{gone.version[:12]} of this data set; put it back, or correct spec.url")  # fmt: skip
        return failed(name, f"{path} {reason(error)}")
    newest = _newest(reading, found, version, recorded)
    return DatasetIndex(
        name=name, samples=found.samples, columns=_told(found.columns), digest=found.digest, format=found.form,
        size=found.size, version=version, parent=newest.parent, files=len(found.entries),
        grown=[GrownFile.model_validate(each) for each in newest.grown], new_samples=newest.new_samples,
        labels={encodable(key): count for key, count in found.labels.items()},
    )  # fmt: skip


def _newest(reading: Reading, found: FoundData, version: str, recorded: bool) -> KnownVersion:
    """Return the version with what it holds more than the one before, and note it."""
    known = reading.known
    before = known.newest(reading.dataset) if known is not None else None
    if before is not None and before.version == version:
        newest, entries = before, None
    else:
        newest, entries = KnownVersion(version, new_samples=found.samples), found.entries
        if before is not None:
            grown = _grown(reading, found, recorded)
            more = [each.model_dump() for each in grown.files] if grown is not None else []
            newest = KnownVersion(version, before.version, grown.samples if grown is not None else found.samples,
                                  tuple(more))  # fmt: skip
    if known is not None:
        known.keep(reading.dataset, newest, entries, reading.seen)
    return newest


def _grown(reading: Reading, found: FoundData, recorded: bool) -> Growth | None:
    if recorded:
        return numbered_growth(reading.known.paths(reading.dataset) if reading.known is not None else (), found.entries)
    if not found.grows_by_rows:
        return None
    return growth(reading.before, reading.count_before, found.entries, found.rewritten)


def _told(columns: Mapping[str, str]) -> dict[str, str]:
    """Return as many columns as the report has room for, and the number of the others."""
    room, told = MAX_TEXT, dict[str, str]()
    for name, kind in columns.items():
        room -= len(name) + len(kind)
        if room < 0:
            told["…"] = f"{len(columns) - len(told)} more columns"
            break
        told[encodable(name)] = kind
    return told
