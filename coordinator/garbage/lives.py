"""How long what nobody needs stays; ``docs/garbage.md`` has the table of all lives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heliograph.coordinator import settings as options


@dataclass(frozen=True)
class Lives:
    """The lives in one coordinator's cloud. A field's name with dashes is its name in ``--keep NAME=N``.

    Attributes:
        versions: newest trained versions of each model that stay in any case; a model's ``spec.keepVersions`` stands
            above it.
        open_rounds: newest close records of a job that runs that stay.
        ended_days: days for which the close records of a job stay after its end.
        blob_hours: hours for which weights stay that no resource names, and the beginning of a cut upload.
    """

    versions: int = 32
    open_rounds: int = 1000
    ended_days: int = 30
    blob_hours: int = 24

    @classmethod
    def parse(cls, settings: Iterable[str]) -> Lives:
        """Return the lives with these settings, each ``NAME=N``. Raise Refused for others."""
        return options.changed(cls(), "keep", settings)
