"""Ask OSV, a public database, which advisories concern versions of packages (its API, version 1)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.request import Request, urlopen

from packaging.utils import canonicalize_name

SERVICE = "https://api.osv.dev"
SECONDS = 30
ASKED_AT_ONCE = 500
"""Versions of one question; the service takes 1,000."""


class Unreachable(Exception):
    """The service gives no answer, or none that can be read."""


@dataclass(frozen=True)
class Advisory:
    """An advisory that concerns a pinned version.

    Attributes:
        names: its ids in all databases, that of the answer first.
        fixed: versions of the package from which on it no longer holds; empty where there is none.
    """

    package: str
    version: str
    names: tuple[str, ...]
    fixed: tuple[str, ...]
    summary: str


def advisories(pins: Mapping[str, str], service: str = SERVICE) -> list[Advisory]:
    """Return the advisories of pinned versions, each once, by package. Raise Unreachable."""
    try:
        found = [_read(package, version, _ask(f"{service}/v1/vulns/{name}"))
                 for package, version, name in _concerned(list(pins.items()), service)]  # fmt: skip
    except (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Unreachable(f"{service}: {error}") from None
    return _merged(each for each in found if each is not None)


def _concerned(pins: list[tuple[str, str]], service: str) -> Iterable[tuple[str, str, str]]:
    """Yield package, version and id of each advisory."""
    for start in range(0, len(pins), ASKED_AT_ONCE):
        waiting: list[tuple[str, str, str]] = [(*pin, "") for pin in pins[start : start + ASKED_AT_ONCE]]
        while waiting:
            answer = _ask(f"{service}/v1/querybatch", {"queries": [_query(*each) for each in waiting]})
            following = []
            for (package, version, _), result in zip(waiting, answer["results"], strict=True):
                yield from ((package, version, str(each["id"])) for each in result.get("vulns", ()))
                if page := result.get("next_page_token"):
                    following.append((package, version, str(page)))
            waiting = following


def _query(package: str, version: str, page: str) -> dict[str, Any]:
    query: dict[str, Any] = {"package": {"name": package, "ecosystem": "PyPI"}, "version": version}
    return query | ({"page_token": page} if page else {})


def _read(package: str, version: str, document: dict[str, Any]) -> Advisory | None:
    """Return what a document of the database says of a package; None where it has been withdrawn."""
    if document.get("withdrawn"):
        return None
    fixed = [
        str(event["fixed"])
        for affected in document.get("affected", ())
        if affected.get("package", {}).get("ecosystem") == "PyPI"
        and canonicalize_name(affected["package"]["name"]) == canonicalize_name(package)
        for one in affected.get("ranges", ()) if one.get("type") == "ECOSYSTEM"
        for event in one["events"] if "fixed" in event
    ]  # fmt: skip
    names = (str(document["id"]), *map(str, document.get("aliases", ())))
    summary = str(document.get("summary") or document.get("details") or "").strip().partition("\n")[0]
    return Advisory(package, version, names, tuple(dict.fromkeys(fixed)), summary)


def _merged(found: Iterable[Advisory]) -> list[Advisory]:
    """Join what several databases say of the same: each names the others' ids."""
    merged: list[Advisory] = []
    for each in found:
        same = [other for other in merged if other.package == each.package and set(other.names) & set(each.names)]
        for other in same:
            merged.remove(other)
        joined = [*same, each]
        merged.append(Advisory(
            each.package, each.version, tuple(dict.fromkeys(name for one in joined for name in one.names)),
            tuple(dict.fromkeys(version for one in joined for version in one.fixed)),
            next((one.summary for one in joined if one.summary), ""),
        ))  # fmt: skip
    return sorted(merged, key=lambda each: (each.package.lower(), each.names))


def _ask(url: str, question: object = None) -> dict[str, Any]:
    body = None if question is None else json.dumps(question).encode()
    with urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=SECONDS) as answer:
        document = json.load(answer)
    if not isinstance(document, dict):
        raise ValueError(f"expected an object, got {type(document).__name__}")
    return document
