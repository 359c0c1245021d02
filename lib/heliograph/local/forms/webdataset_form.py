"""A webdataset: a tar that is read from its start to its end, and written so."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.core.errors import HeliographError
from heliograph.edge_agent.datasets.source import Source, open_source
from heliograph.edge_agent.datasets.tar_members import Member
from heliograph.edge_agent.datasets.webdataset_file import files, read_webdataset
from heliograph.local.forms.csv_form import ending_of, written_like
from heliograph.local.forms.form import Request
from heliograph.local.forms.labels import Column

if TYPE_CHECKING:
    from heliograph.local.forms.form import Owners

_LABEL = 256
"""Bytes of a file that are read as a label."""


class WebDatasetForm:
    """See ``Form``. The files of a sample stay together, in their order; only the tar's headers are written anew."""

    has_test = False

    def __init__(self, path: Path, request: Request) -> None:
        self._path = path
        with open_source(path) as source:
            found = read_webdataset(source.open)
            self.ending = ending_of(source)
            self.samples = found.samples
            self.columns: Sequence[str] = sorted(found.columns)
            self.said = f"{found.samples:,} samples of {', '.join(f'.{each}' for each in self.columns)[:200]}"
            if wanted := dict(request.columns(self.columns)):
                _collect(source, wanted)

    def write(self, owners: Owners, targets: Sequence[Path]) -> None:
        places = owners.tolist()
        with open_source(self._path) as source, ExitStack() as stack:
            tars = [stack.enter_context(tarfile.open(
                fileobj=stack.enter_context(written_like(source, target)), mode="w|", format=tarfile.PAX_FORMAT
            )) for target in targets]  # fmt: skip
            for place, _, member in _samples(source):
                if place >= len(places):
                    raise HeliographError(f"{self._path}: changed while it was read; write it under another name first")
                if places[place] >= 0:
                    head = tarfile.TarInfo(member.name)
                    head.size = member.size
                    tars[places[place]].addfile(head, member.content)

    def write_test(self, target: Path) -> None:
        raise NotImplementedError("a webdataset has no test part of its own")


def _samples(source: Source) -> Iterator[tuple[int, str, Member]]:
    """Yield the number of its sample, the ending and the member of each file."""
    number, present = -1, ""
    for key, ending, member in files(source.open()):
        if key != present:
            number, present = number + 1, key
        yield number, ending, member


def _collect(source: Source, wanted: Mapping[str, Column]) -> None:
    """Add the contents of each sample's files with these endings; None where a sample has none."""
    place, found = 0, dict[str, bytes]()
    for number, ending, member in _samples(source):
        if number != place:
            _add(wanted, found)
            place, found = number, {}
        if ending in wanted:
            found[ending] = member.content.read(_LABEL).strip()
    _add(wanted, found)


def _add(wanted: Mapping[str, Column], found: Mapping[str, bytes]) -> None:
    for ending, column in wanted.items():
        column.add((found.get(ending),))
