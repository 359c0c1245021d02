"""Outcomes in a csv file: ``sample,label,champion,challenger``."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from heliograph.core.errors import Refused
from heliograph.core.membership import HeldOut
from heliograph.gate.verdict import Outcome

COLUMNS = ("sample", "label", "champion", "challenger")
MOST = 10_000_000
"""Rows that are read, at most."""
CELL = 1024
"""Characters of a cell, at most."""


def read_outcomes(file: Path) -> list[Outcome]:
    """Return the outcomes of a csv in UTF-8; further columns are passed over. Raise Refused naming the line."""
    found: list[Outcome] = []
    with file.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.reader(opened)
        try:
            names = next(reader, [])
            missing = [each for each in COLUMNS if each not in names]
            if missing:
                raise _refused(file, 1, f"the columns {', '.join(COLUMNS)}", f"none named {missing[0]}")
            places = [names.index(each) for each in COLUMNS]
            for row in reader:
                if not row:
                    continue
                cells = [row[place] if place < len(row) else "" for place in places]
                if not all(0 < len(cell) <= CELL for cell in cells):
                    raise _refused(file, reader.line_num, f"four cells of 1 to {CELL} characters", ",".join(row))
                if len(found) >= MOST:
                    raise _refused(file, reader.line_num, f"at most {MOST} rows", "more")
                found.append(Outcome(*cells))
        except UnicodeDecodeError:
            raise Refused("not-text", topic=str(file), expected="a csv in UTF-8", got="other bytes") from None
        except csv.Error as error:
            raise _refused(file, reader.line_num, "a line of csv", error) from None
    return found


def check_held_out(outcomes: Sequence[Outcome], rule: HeldOut) -> None:
    """Raise Refused where a sample may have been trained on: the rule does not hold it out."""
    for each in outcomes:
        if each.sample not in rule:
            raise Refused("invalid", field="sample", expected=f"samples of the held-out {rule.percent} %",
                          got=each.sample, hint="A gate measures on samples that nobody trains on.")  # fmt: skip


def _refused(file: Path, line: int, expected: str, got: object) -> Refused:
    return Refused("invalid", topic=str(file), field=f"line {line}", expected=expected, got=got)
