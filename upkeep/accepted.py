"""Advisories that somebody has looked at, and that do not concern this project: ``advisories.toml``.

[[accepted]]
id = "GHSA-…"        # of any database
package = "name"
why = "what the advisory needs and is not done here"
until = 2027-01-31   # to be looked at again
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, fields

from packaging.utils import canonicalize_name

from upkeep.osv import Advisory


@dataclass(frozen=True)
class Accepted:
    """An entry; it holds until its day is over."""

    id: str
    package: str
    why: str
    until: datetime.date

    def covers(self, advisory: Advisory, today: datetime.date) -> bool:
        same = self.id in advisory.names and canonicalize_name(self.package) == canonicalize_name(advisory.package)
        return same and today <= self.until


def read_accepted(text: str) -> list[Accepted]:
    """Return the entries. Raise ValueError with the entry that is none."""
    document = tomllib.loads(text)
    kinds = {each.name: datetime.date if each.name == "until" else str for each in fields(Accepted)}
    entries = document.pop("accepted", [])
    if document or not isinstance(entries, list):
        raise ValueError(f"expected [[accepted]] alone, got {', '.join(document) or entries}")
    for entry in entries:
        good = isinstance(entry, dict) and entry.keys() == kinds.keys()
        if not good or not all(type(entry[name]) is kind and entry[name] for name, kind in kinds.items()):
            raise ValueError(f"expected id, package and why as texts and until as a date, got {entry}")
    return [Accepted(**entry) for entry in entries]


def unused(accepted: Collection[Accepted], found: Collection[Advisory]) -> list[Accepted]:
    """Return the entries that no advisory of the present pins needs."""
    return [each for each in accepted if not any(each.covers(one, datetime.date.min) for one in found)]
