"""The rows of a csv, in blocks of whole rows, as the bytes in which they lie in the file."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from heliograph.edge_agent.datasets.csv_look import (
    MAX_ROW,
    MISSING,
    Header,
    Look,
    encoding_of,
    is_number,
    look,
    null_character,
)
from heliograph.edge_agent.datasets.unusable import Unusable

BLOCK = 1 << 18
"""Bytes read at once."""
LOOKED_AT = 1 << 20
"""Bytes by which the form is told."""
KINDS_FROM = 10_000
"""Rows that decide whether a column holds numbers or text; fewer where they have more than KIND_CELLS cells."""
KIND_CELLS = 2_000_000

csv.field_size_limit(MAX_ROW)


@dataclass(frozen=True)
class Block:
    """Rows that follow one another.

    Attributes:
        rows: the bytes of each row with its line end, in the encoding of ``recoded``.
        cells: the rows' cells, where they had to be read: some are in quotes.
    """

    look: Look
    rows: list[bytes]
    cells: list[list[str]] | None

    def table(self, most: int) -> Iterator[list[str]]:
        """Yield the cells of the first rows."""
        if self.cells is not None:
            yield from self.cells[:most]
            return
        mark = None if self.look.delimiter == " " else self.look.delimiter
        for row in self.rows[:most]:
            yield row.decode("latin-1").split(mark) if self.look.width > 1 else [row.decode("latin-1")]

    def column(self, place: int) -> list[bytes]:
        """Return a column's cells."""
        if self.cells is not None:
            return [row[place].strip().encode("latin-1") for row in self.cells]
        if self.look.delimiter == " ":
            return [row.split()[place] for row in self.rows]
        mark, width = self.look.delimiter.encode(), self.look.width
        if width == 1:
            return [row.strip() for row in self.rows]
        if place < width // 2:
            return [row.split(mark, place + 1)[place].strip() for row in self.rows]
        return [row.rsplit(mark, width - place)[1].strip() for row in self.rows]


@dataclass(frozen=True)
class CsvSurvey:
    """A csv that has been read once: its form, its number of rows, and each column's kind."""

    look: Look
    samples: int
    columns: dict[str, str]


def survey(
    open: Callable[[], BinaryIO], header: Header | None, seen: Callable[[Block], None] | None = None
) -> CsvSurvey:
    """Read a csv from its start to its end; call ``seen`` with each block.

    Args:
        open: opens the content from its start.

    Raise Unusable, naming the line, where it is no csv.
    """
    found = look_at(open(), header)
    samples = 0
    kinds = ["" for _ in found.names]  # a missing value decides nothing
    deciding = min(KINDS_FROM, KIND_CELLS // found.width + 1)
    for block in blocks(open(), found):
        if samples < deciding:
            _decide(kinds, block, deciding - samples)
        samples += len(block.rows)
        if seen is not None:
            seen(block)
    if samples == 0:
        raise Unusable("has a header but no rows; write the data set again")
    columns = {name: kind or "text" for name, kind in zip(found.names, kinds, strict=True)}
    return CsvSurvey(found, samples, columns)


def look_at(stream: BinaryIO, header: Header | None) -> Look:
    """Return the form of a csv from its first lines."""
    start = stream.read(LOOKED_AT)
    encoding, mark = encoding_of(start)
    while b"\n" not in start and b"\r" not in start and len(start) <= MAX_ROW and (more := stream.read(LOOKED_AT)):
        start += more
    if len(start) > MAX_ROW and b"\n" not in start and b"\r" not in start:
        raise Unusable(f"is no csv at line 1: {_too_long()}")
    text = start[len(mark) :]
    if encoding.startswith("utf-16"):
        text = codecs.getincrementaldecoder(encoding)("replace").decode(text).encode()
    return look(text, encoding, mark, header, whole=not stream.read(1))


def blocks(stream: BinaryIO, found: Look) -> Iterator[Block]:
    """Yield the rows of a csv from its start. Raise Unusable, naming the line, for one of more or fewer fields."""
    reading = _Reading(stream, found)
    yield from reading.plain()
    if reading.quoted:
        yield from reading.parsed()


def preamble(stream: BinaryIO, found: Look) -> bytes:
    """Return what precedes the first row, comments and header, without the mark; as ``Block.rows``."""
    read = b""
    for chunk in _chunks(stream, found):
        read += chunk
        if len(read) >= found.preamble:
            break
    return read[: found.preamble]


def _decide(kinds: list[str], block: Block, most: int) -> None:
    """Decide by up to ``most`` rows which columns hold text."""
    mark = block.look.delimiter
    undecided = [place for place, kind in enumerate(kinds) if kind != "text"]
    for row in block.table(most):
        text = False
        for place in undecided:
            if (cell := row[place].strip()) not in MISSING:
                kinds[place] = "number" if is_number(cell, mark) else "text"
                text = text or kinds[place] == "text"
        if text:
            undecided = [place for place in undecided if kinds[place] != "text"]


def _too_long() -> str:
    return f"a row of more than {MAX_ROW} characters; is a quote or a line end missing?"


class _Reading:
    """One pass over the rows.

    The rows before the first quote are lines, split and counted as bytes: several times faster than reading their
    cells, which the rest of the file needs.
    """

    def __init__(self, stream: BinaryIO, found: Look) -> None:
        self._look = found
        self._chunks = _chunks(stream, found)
        self._line = 0
        """Lines before the present block."""
        self._skip = found.preamble
        self._whole_lines = self._texts()
        """One for both passes: it keeps the line that a block has cut off."""
        self._left = b""
        self.quoted = False

    def plain(self) -> Iterator[Block]:
        """Yield the rows before the first quote."""
        for text in self._whole_lines:
            if b'"' in text:
                self._left, self.quoted = text, True
                return
            lines = text.splitlines(keepends=True)
            rows = self._rows(lines)
            self._line += len(lines)
            if rows:
                yield Block(self._look, rows, None)

    def parsed(self) -> Iterator[Block]:
        """Yield the rest."""
        look, taken = self._look, list[bytes]()
        rows: list[bytes] = []
        cells: list[list[str]] = []
        size = 0
        reader = csv.reader(self._feed(taken), delimiter=look.delimiter, skipinitialspace=look.spaced, strict=True)
        try:
            for row in reader:
                raw = taken[0] if len(taken) == 1 else b"".join(taken)
                taken.clear()
                if look.delimiter == " " and row and not row[-1]:
                    del row[-1]  # spaces at the end of the line
                if len(row) != look.width:
                    if raw.strip():
                        raise Unusable(_ragged(len(row), self._line, look.width))
                    continue
                rows.append(raw)
                cells.append(row)
                size += len(raw)
                if size > BLOCK:
                    yield Block(look, rows, cells)
                    rows, cells, size = [], [], 0
        except csv.Error as error:
            raise Unusable(f"is no csv at line {self._line}: {error}") from None
        if rows:
            yield Block(look, rows, cells)

    def _feed(self, taken: list[bytes]) -> Iterator[str]:
        """Yield lines to the reader of cells, and note them in ``taken``, which is emptied after each row."""
        pending = 0
        for line in self._each_line():
            if not taken:
                pending = 0
                if self._look.comments and line.startswith(b"#"):
                    continue
            pending += len(line)
            if pending > MAX_ROW:
                raise csv.Error(_too_long())
            taken.append(line)
            yield line.decode("latin-1")

    def _rows(self, lines: list[bytes]) -> list[bytes]:
        """Return the lines that are rows. Raise Unusable for one of another width."""
        width, mark = self._look.width, self._look.delimiter.encode()
        if self._look.comments and any(line.startswith(b"#") for line in lines):
            return self._rows_one_by_one(lines)
        if width == 1:
            return self._rows_one_by_one(lines) if any(mark in line for line in lines) else [
                line for line in lines if line.strip()
            ]
        if self._look.delimiter == " ":
            counts = {len(line.split()) for line in lines}
        else:
            counts = {line.count(mark) + 1 for line in lines}
        return lines if counts == {width} else self._rows_one_by_one(lines)

    def _rows_one_by_one(self, lines: list[bytes]) -> list[bytes]:
        width, mark = self._look.width, self._look.delimiter.encode()
        rows = []
        for number, line in enumerate(lines, self._line + 1):
            if not line.strip() or (self._look.comments and line.startswith(b"#")):
                continue
            fields = len(line.split()) if mark == b" " else line.count(mark) + 1
            if fields != width and line.strip():
                raise Unusable(_ragged(fields, number, width))
            rows.append(line)
        return rows

    def _each_line(self) -> Iterator[bytes]:
        for text in chain((self._left,), self._whole_lines):
            for line in text.splitlines(keepends=True):
                self._line += 1
                yield line

    def _texts(self) -> Iterator[bytes]:
        """Yield whole lines, a block at a time, without the preamble."""
        rest = b""
        for chunk in self._chunks:
            text = rest + chunk if rest else chunk
            if self._skip:
                if len(text) < self._skip:
                    rest = text
                    continue
                self._line += len(text[: self._skip].splitlines())
                text, self._skip = text[self._skip :], 0
            if (zero := text.find(0)) >= 0:
                raise Unusable(null_character(self._line + text.count(b"\n", 0, zero) + 1))
            cut = text.rfind(b"\n") + 1 or text.rfind(b"\r", 0, -1) + 1
            rest = text[cut:]
            if len(rest) > MAX_ROW:
                raise Unusable(f"is no csv at line {self._line + text.count(10) + 1}: {_too_long()}")
            if cut:
                yield text[:cut]
        if rest:
            yield rest


def _ragged(fields: int, line: int, width: int) -> str:
    return f"has {fields} fields in line {line}, expected {width} as in its first rows; correct or delete that line"


def _chunks(stream: BinaryIO, found: Look) -> Iterator[bytes]:
    """Yield the text without its mark, in an encoding that holds ASCII."""
    stream.read(len(found.mark))
    if not found.recoded:
        while chunk := stream.read(BLOCK):
            yield chunk
        return
    decoder = codecs.getincrementaldecoder(found.encoding)()
    try:
        while chunk := stream.read(BLOCK):
            yield decoder.decode(chunk).encode()
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise Unusable(f"is damaged {found.encoding.upper()} text ({error}); save it as csv in UTF-8") from None
