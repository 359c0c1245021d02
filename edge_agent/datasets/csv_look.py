"""What a csv looks like: encoding, delimiter, header and comments, told from its first lines."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.unusable import Unusable

DELIMITERS = {",": "commas", "\t": "tabs", ";": "';'", "|": "'|'", " ": "spaces"}
LOOKED_AT = 500
"""Rows of the first lines that decide."""
MAX_ROW = 16 * 1024 * 1024
"""Bytes of one row: bounds memory where quotes or line ends are missing."""
MISSING = frozenset(("", "NA", "N/A", "n/a", "#N/A", "NULL", "null", "None", "nan", "NaN", "-nan", "<NA>"))
"""Cells that stand for no value, as pandas reads them."""

_COMMA_NUMBER = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+(?:[eE][+-]?\d+)?")

Header = Literal["yes", "no"]


@dataclass(frozen=True)
class Look:
    """The form of a csv.

    Attributes:
        encoding: codec of the text, without its mark.
        mark: bytes of the byte-order mark.
        delimiter: one ASCII character; of spaces, several count as one.
        width: fields of each row.
        names: a name for each field: the header's, or the field's number from 0 where there is none.
        header: whether the first line names the columns.
        comments: whether lines that begin with ``#`` are comments.
        preamble: bytes, in the encoding of ``Look.recoded``, before the first row: comments and header.
        spaced: whether spaces after a delimiter do not belong to the field.
        decimal: decimal mark of numbers.
    """

    encoding: str
    mark: bytes
    delimiter: str
    width: int
    names: tuple[str, ...]
    header: bool
    comments: bool
    preamble: int
    spaced: bool
    decimal: Literal[".", ","]

    @property
    def recoded(self) -> bool:
        """Return whether the text is read as UTF-8: its own encoding is not a superset of ASCII."""
        return self.encoding.startswith("utf-16")

    def encode(self, data: bytes) -> bytes:
        """Return bytes as they lie in the file: ``Block.rows`` and ``csv_file.preamble`` are in UTF-8 where recoded."""
        return data.decode().encode(self.encoding) if self.recoded else data

    def sentence(self) -> str:
        """Return what was found by looking, for people."""
        parts = [f"fields separated by {DELIMITERS[self.delimiter]}"] if self.delimiter != "," else []
        if self.decimal == ",":
            parts.append("decimal commas")
        if self.encoding != "utf-8":
            parts.append(self.encoding.upper().replace("LATIN-1", "Latin-1"))
        names = "named by the first line" if self.header else f"without a header: {self.names[0]}, …, {self.names[-1]}"
        return ", ".join([*parts, f"{self.width} columns {names}"])


def encoding_of(start: bytes) -> tuple[str, bytes]:
    """Return the codec and the byte-order mark of a text, from its first bytes."""
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise Unusable("is UTF-32 text; save it as csv in UTF-8")
    for mark, codec in (
        (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):  # fmt: skip
        if start.startswith(mark):
            return codec, mark
    head = start[:4096]
    zeros = head[0::2].count(0), head[1::2].count(0)
    if len(head) >= 8 and max(zeros) > len(head) // 6 and min(zeros) <= len(head) // 100:
        return ("utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"), b""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return "latin-1", b""
    return "utf-8", b""


def look(text: bytes, encoding: str, mark: bytes, header: Header | None, whole: bool) -> Look:
    """Return the form of a csv.

    Args:
        text: its first lines, in an encoding that holds ASCII, without the mark.
        header: whether the first line names the columns; None: its cells decide.
        whole: whether ``text`` is the whole file, not its beginning.

    Raise Unusable if it is no csv.
    """
    if b"\0" in text:
        raise Unusable(null_character(text.count(b"\n", 0, text.index(0)) + 1))
    lines = text.splitlines(keepends=True)
    if not whole and len(lines) > 1:
        del lines[-1]  # it may go on
    comments = next((line for line in lines if line.strip()), b"").startswith(b"#")
    table = [line for line in lines if line.strip() and not (comments and line.startswith(b"#"))]
    if not table:
        raise Unusable("has no header line and no rows; write the data set again")
    names_encoding = "latin-1" if encoding == "latin-1" else "utf-8"
    found = [guess for each in DELIMITERS if (guess := _parsed(table, each, names_encoding)) is not None]
    best = max(found, key=lambda each: each.score, default=None) or _parsed(table, ",", names_encoding, alone=True)
    assert best is not None
    rows, delimiter, width = best.rows, best.delimiter, best.width
    named = header == "yes" or (header is None and has_header(rows, delimiter))
    above = next(place for place, line in enumerate(lines) if line.strip() and not (comments and line.startswith(b"#")))
    if named:
        names = _fit(rows[0], width, rows[1:])
    else:
        names = _comment_names(lines[:above], delimiter, width) or [str(number) for number in range(width)]
    preamble = sum(map(len, lines[: above + (best.first_lines if named else 0)]))
    return Look(encoding, mark, delimiter, width, unique(names), named, comments, preamble, best.spaced,
                "," if best.decimal_comma else ".")  # fmt: skip


def null_character(line: int) -> str:
    return f"has a null character in line {line}: it is not text, or damaged; write it again as csv"


def has_header(rows: Sequence[Sequence[str]], delimiter: str) -> bool:
    """Return whether the first row names the columns, from the kinds of its cells and of those below them.

    A text above numbers is a name, and so are the numbers 0, 1, 2, … above others. A number above numbers is none.
    Where all is text, the first row names the columns unless one of its cells comes again below.
    """
    first, below = rows[0], rows[1:LOOKED_AT]
    if not below:
        return not any(is_number(cell, delimiter) for cell in first)
    if len(first) < len(below[0]):
        return True
    if len(first) >= 4 and all(cell.strip().isdigit() for cell in first):
        numbers = [int(cell) for cell in first[:100_000] if len(cell) < 10]
        return len(numbers) == len(first) and numbers[0] in (0, 1) and all(b - a == 1 for a, b in pairwise(numbers))
    numeric = [_is_numeric([row[place] for row in below if place < len(row)], delimiter) for place in range(len(first))]
    cells = [cell.strip() for cell in first]
    if any(kind and cell not in MISSING and not is_number(cell, delimiter)
           for cell, kind in zip(cells, numeric, strict=True)):  # fmt: skip
        return True
    if any(is_number(cell, delimiter) for cell in cells):
        return False
    return not any(cell and any(place < len(row) and row[place].strip() == cell for row in below)
                   for place, cell in enumerate(cells))  # fmt: skip


def is_number(text: str, delimiter: str = ",") -> bool:
    """Return whether a cell is a number; with a decimal comma where commas separate no fields."""
    try:
        float(text)
    except ValueError:
        return delimiter != "," and _COMMA_NUMBER.fullmatch(text.strip()) is not None
    return "_" not in text  # only Python reads 1_000


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, of equal ones the later ones with a number, as pandas names them: ``a``, ``a.1``."""
    taken, found, counts = set(names), [], Counter[str]()
    for name in names:
        new = name
        while counts[name] and new in taken:
            new = f"{name}.{counts[name]}"
            counts[name] += 1
        counts[name] += 1 if new == name else 0
        taken.add(new)
        found.append(new)
    return tuple(found)


@dataclass(frozen=True)
class _Guess:
    """The first rows, read with one delimiter."""

    delimiter: str
    rows: list[list[str]]
    width: int
    score: tuple[float, ...]
    spaced: bool
    first_lines: int
    """Lines of the first row."""
    decimal_comma: bool


def _parsed(table: list[bytes], delimiter: str, encoding: str, alone: bool = False) -> _Guess | None:
    """Return the rows as one delimiter separates them; None where it separates nothing."""
    spaced = delimiter == " " or any(f'{delimiter} "'.encode() in line for line in table[:LOOKED_AT])
    lines = [line.decode(encoding, "replace") for line in table[: 2 * LOOKED_AT]]
    if delimiter == " ":
        lines = [line.strip(" \r\n") + "\n" for line in lines]
    reader = csv.reader(iter(lines), delimiter=delimiter, skipinitialspace=spaced, strict=True)
    rows: list[list[str]] = []
    first_lines = 0
    try:
        for row in reader:
            rows.append(row)
            first_lines = first_lines or reader.line_num
            if len(rows) >= LOOKED_AT:
                break
    except csv.Error as error:  # or a row that goes on behind the first lines: the whole file is read later
        if not rows and alone:
            raise Unusable(f"is no csv at line {reader.line_num}: {error}") from None
        if not rows:
            return None
    below = rows[1:]
    counts = Counter(len(row) for row in below or rows)
    width = max(counts, key=lambda each: (counts[each], each == len(rows[0]), each))
    if width == 1 and len(rows[0]) > 1:
        width = len(rows[0])
    if width < 2 and not alone:
        return None
    fits = [len(row) == width for row in below] or [True]
    cells = [cell.strip() for row in below or rows for cell in row]
    numbers = [is_number(cell, delimiter) for cell in cells]
    share = sum(numbers) / max(1, len(cells))
    if delimiter == " " and share < 0.5:
        return None  # words of a text
    comma = any(number and "," in cell for number, cell in zip(numbers, cells, strict=True))
    order = -list(DELIMITERS).index(delimiter)
    score = (round(sum(fits) / len(fits), 2), float(len(rows[0]) in (width, width - 1)), round(share, 2), width, order)
    return _Guess(delimiter, rows, width, score, spaced, first_lines, comma)


def _fit(header: Sequence[str], width: int, below: list[list[str]]) -> list[str]:
    """Return the header's names for rows that may have one field more: behind a last delimiter, or a row's name."""
    names = [name.strip() for name in header]
    if len(names) == width - 1:
        trailing = all(not row[-1].strip() for row in below if len(row) == width)
        return [*names, ""] if trailing else ["", *names]
    if len(names) != width:
        raise Unusable(f"has {width} fields in its rows and {len(names)} in its header, {shorten(','.join(names))}; "
                       "correct the header, or say --header no if there is none")  # fmt: skip
    return names


def _comment_names(above: Sequence[bytes], delimiter: str, width: int) -> list[str]:
    """Return the names that the last comment before the first row gives, as ``numpy.savetxt`` writes them."""
    last = next((line for line in reversed(above) if line.strip()), b"")
    names = [name.strip() for name in last.decode(errors="replace").lstrip("# ").strip().split(delimiter)]
    return names if len(names) == width and not any(map(is_number, names)) else []


def _is_numeric(cells: Sequence[str], delimiter: str) -> bool:
    """Return whether a column's present values are numbers, and there are any."""
    present = [cell for cell in map(str.strip, cells) if cell not in MISSING]
    return bool(present) and all(is_number(cell, delimiter) for cell in present)
