"""The format of state that outlives the program that wrote it, on a disk or in a bucket.

An earlier format is migrated, one step for each number. A later one is refused, because this version could misread it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from heliograph import __version__
from heliograph.core.errors import HeliographError


@dataclass(frozen=True)
class StateFormat:
    """The note beside the state.

    Attributes:
        number: counts the formats of one kind of state.
        written_by: version of heliograph that wrote it last; empty for 0.1, which notes none.
    """

    number: int
    written_by: str = ""

    @classmethod
    def parse(cls, text: bytes | str, place: str) -> StateFormat:
        """Read a note. Raises HeliographError naming the place if the text is no note."""
        try:
            noted = json.loads(text)
            return cls(int(noted["format"]), str(noted["written_by"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise HeliographError(
                f"{place}: its format is noted as {text[:120]!r}, which is none. Restore the state from a copy, or "
                "start with other, empty state."
            ) from None

    def dump(self) -> bytes:
        return json.dumps({"format": self.number, "written_by": self.written_by}).encode()


def present(number: int) -> StateFormat:
    """Return the note of this version beside state of that format."""
    return StateFormat(number, __version__)


def steps(found: StateFormat, known: int, place: str) -> range:
    """Return the formats to migrate from, in order; none if the state has format ``known`` already.

    Raises HeliographError if the state is of a later format.
    """
    if found.number > known:
        by = f"heliograph {found.written_by}" if found.written_by else "a newer heliograph"
        raise HeliographError(
            f"{place} is of format {found.number}, written by {by}; this heliograph {__version__} reads up to format "
            f"{known}. Install {by} again, or start with other, empty state."
        )
    return range(found.number, known)
